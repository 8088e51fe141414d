"""What is recorded of chats and votes: free texts are redacted, everything else stays as it came."""

import json

from gateway.redaction.records import redact_completion, redact_vote


def test_a_completion_has_one_numbering_for_its_prompt_and_all_choices() -> None:
    messages = json.dumps([{"role": "user", "content": "我的邮箱是amy@example.org"}])
    choices = json.dumps(
        [
            {"index": 0, "message": {"role": "assistant", "content": "bob@example.org"}, "finish_reason": "stop"},
            {"index": 1, "message": {"role": "assistant", "content": "AMY@example.org"}, "finish_reason": "stop"},
        ]
    )
    prompt, answers = redact_completion(messages, choices)
    assert json.loads(prompt) == [{"role": "user", "content": "我的邮箱是[EMAIL_1]"}]
    assert [choice["message"]["content"] for choice in json.loads(answers)] == ["[EMAIL_2]", "[EMAIL_1]"]


def test_a_completion_without_personal_data_is_stored_as_it_was_to_the_byte() -> None:
    messages, choices = '[{"role": "user",  "content":"hi"}]', "[]"
    assert redact_completion(messages, choices) == (messages, choices)


def test_the_free_texts_of_a_vote_are_redacted_and_its_ids_stay() -> None:
    vote = {
        "type": "correction",
        "target": {"completion_id": "chatcmpl-13800138000", "index": 0},
        "message": {"role": "assistant", "content": "打13800138000"},
        "comment": "138-0013-8000才对, ask amy@example.org",
        "rater": {"id": "amy@example.org"},
        "metadata": {"ticket": "13800138000"},
    }
    redacted = redact_vote(vote)
    assert redacted == vote | {
        "message": {"role": "assistant", "content": "打[PHONE_1]"},
        "comment": "[PHONE_1]才对, ask [EMAIL_1]",
    }
    assert list(redacted) == list(vote)


def test_each_row_of_a_batch_has_its_own_numbering() -> None:
    def row(address: str) -> dict[str, object]:
        return {
            "input": {"messages": [{"role": "user", "content": f"Is {address} right?"}]},
            "preferred_output": [{"role": "assistant", "content": f"Yes, {address}."}],
            "non_preferred_output": [{"role": "assistant", "content": "No."}],
        }

    body = redact_vote({"type": "pair", "pairs": [row("amy@example.org"), row("bob@example.org")]})
    assert body == {"type": "pair", "pairs": [row("[EMAIL_1]"), row("[EMAIL_1]")]}


def test_a_target_named_by_its_words_is_named_as_the_record_has_it() -> None:
    match = {"content": "bob@example.org", "messages": [{"role": "user", "content": "amy@example.org?"}]}
    redacted = redact_vote({"type": "rating", "target": {"match": match}, "name": "thumbs", "value": True})
    assert redacted["target"]["match"] == {
        "content": "[EMAIL_2]",
        "messages": [{"role": "user", "content": "[EMAIL_1]?"}],
    }


def test_a_body_that_is_no_object_is_left_to_be_refused() -> None:
    assert redact_vote(["amy@example.org"]) == ["amy@example.org"]
