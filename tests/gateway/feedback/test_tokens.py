"""A vote token says who may vote on what, until when, and cannot be made or changed by anybody else."""

import base64
import json

import pytest

from gateway.access.secrets import Secrets
from gateway.feedback.identity import key_hash, user_hash
from gateway.feedback.tokens import BadVoteToken, VoteToken, issue, read, read_all

SECRETS = Secrets("root")


def token(completion_id: str = "chatcmpl-1", end_user: str | None = "ana", expires_at: float = 1000.0) -> str:
    return issue(
        SECRETS,
        completion_id=completion_id,
        project_id="proj_1",
        key_id="key_1",
        end_user=end_user,
        expires_at=expires_at,
    )


def test_a_token_reads_back_what_it_was_made_of() -> None:
    rater = user_hash("proj_1", "ana", SECRETS)
    assert read(SECRETS, token(), 999.9) == VoteToken("chatcmpl-1", "proj_1", "key_1", rater, 1000)
    assert "ana" not in base64.urlsafe_b64decode(token().removeprefix("vote_").split(".")[0] + "==").decode()


def test_without_an_end_user_the_key_is_the_rater() -> None:
    assert read(SECRETS, token(end_user=None), 0).rater_hash == key_hash("key_1", SECRETS)


def test_a_token_ends_with_its_time() -> None:
    with pytest.raises(BadVoteToken, match="expired"):
        read(SECRETS, token(expires_at=1000), 1000)


@pytest.mark.parametrize("place", range(len("vote_"), len(token())))
def test_a_token_changed_in_any_character_is_refused(place: int) -> None:
    other = "A" if token()[place] != "A" else "B"
    with pytest.raises(BadVoteToken, match="not one of this gateway's"):
        read(SECRETS, token()[:place] + other + token()[place + 1 :], 0)


@pytest.mark.parametrize("text", ["", "vote_", "vote_.", "vote_x.y", "vote_é.é", "sk-secret", "vote_" + "a" * 4000])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(BadVoteToken, match="not one of this gateway's"):
        read(SECRETS, text, 0)


def test_a_token_of_another_deployment_is_refused() -> None:
    said = json.dumps(["chatcmpl-1", "proj_1", "key_1", "r_1", 9999]).encode()
    own = "vote_" + base64.urlsafe_b64encode(said).decode().rstrip("=")
    with pytest.raises(BadVoteToken):
        read(SECRETS, own + "." + token().split(".")[1], 0)
    with pytest.raises(BadVoteToken):
        read(Secrets("other root"), token(), 0)


def test_several_tokens_are_for_one_person() -> None:
    both = read_all(SECRETS, f"{token('a')}, {token('b')}", 0)
    assert [one.completion_id for one in both] == ["a", "b"]
    with pytest.raises(BadVoteToken, match="different people"):
        read_all(SECRETS, f"{token('a')},{token('b', end_user='ben')}", 0)
    with pytest.raises(BadVoteToken, match="at most 16"):
        read_all(SECRETS, ",".join([token()] * 17), 0)
