import itertools
import re
from pathlib import Path

from gateway.demo import prompts
from gateway.demo.prompts import load_prompts


def test_there_are_enough_prompts_and_unseen_ones_are_never_taught():
    found = load_prompts()
    assert len(found.teaching) >= 220
    assert len(found.unseen) >= 60
    assert not set(found.teaching) & set(found.unseen)


def test_every_line_of_the_file_is_used_exactly_once():
    lines = Path(prompts.__file__).with_name("prompts_en.txt").read_text(encoding="utf-8").splitlines()
    found = load_prompts()
    assert len(lines) >= 320
    assert sorted(lines) == sorted(found.teaching + found.unseen)
    assert all(line == line.strip() and len(line) > 10 for line in lines)


def test_no_two_prompts_share_more_than_six_words_in_ten():
    found = load_prompts()
    words = {prompt: set(re.findall(r"\w+", prompt.lower())) for prompt in found.teaching + found.unseen}
    alike = [
        (one, other)
        for one, other in itertools.combinations(words, 2)
        if len(words[one] & words[other]) > 0.6 * len(words[one] | words[other])
    ]
    assert alike == []


def test_the_split_is_the_same_each_time_and_mixes_kinds_of_prompts():
    first = load_prompts()
    load_prompts.cache_clear()
    assert load_prompts() == first
    assert sum(prompt.startswith("Write") for prompt in first.unseen[:48]) in range(1, 16)
