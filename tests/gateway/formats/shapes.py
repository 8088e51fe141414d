"""The same preference in every shape, and a chat as Open WebUI 0.12.4 stores it with a rating. Own content."""

from typing import Any

PROMPT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "我每天应该喝多少水?"}]
GOOD = {"role": "assistant", "content": "大约两升,天热时更多。"}
BAD = {"role": "assistant", "content": "水是一种液体。"}

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("openai", {"input": {"messages": PROMPT}, "preferred_output": [GOOD], "non_preferred_output": [BAD]}),
    "trl messages": ("trl", {"prompt": PROMPT, "chosen": [GOOD], "rejected": [BAD]}),
    "trl shared prefix": ("trl", {"chosen": [*PROMPT, GOOD], "rejected": [*PROMPT, BAD]}),
    "trl messages and texts": ("trl", {"messages": PROMPT, "chosen": GOOD["content"], "rejected": BAD["content"]}),
    "ms-swift response": ("ms-swift", {"messages": [*PROMPT, GOOD], "rejected_response": BAD["content"]}),
    "ms-swift messages": ("ms-swift", {"messages": [*PROMPT, GOOD], "rejected_messages": [*PROMPT, BAD]}),
    "alignway": (
        "alignway",
        {
            "id": "pair_1",
            "project_id": "proj_1",
            "prompt": PROMPT,
            "prompt_hash": "ph_1",
            "chosen": {"message": GOOD, "origin": "human"},
            "rejected": {"message": BAD, "origin": "model", "completion_id": "chatcmpl-1", "index": 0},
            "weight": 0.5,
            "basis": "correction",
            "fact": True,
            "rater": {"id_hash": "r_1", "kind": "annotator"},
            "feedback_ids": ["fb_1"],
            "judged_at": "2026-11-23T12:00:00Z",
        },
    ),
}
MEDICAL = {
    "prompt": "Can I take ibuprofen with warfarin?",
    "chosen": "No, not without asking your doctor: together they raise the risk of bleeding.",
    "rejected": "Yes, that is fine.",
}
"""Three plain strings."""


def rating(
    rated: str = "a1", thumb: Any = 1, siblings: tuple[str, ...] = ("a2",), **annotations: int
) -> dict[str, Any]:
    """A rating of the answer `rated` (of the answers `a1` and its `siblings`), with the thumbs of other answers."""
    answers = ["a1", *siblings]
    messages: dict[str, Any] = {
        "u1": {
            "id": "u1",
            "parentId": None,
            "childrenIds": answers,
            "role": "user",
            "content": "我每天应该喝多少水?",
            "timestamp": 1795000000,
            "models": ["assistant"],
        }
    }
    texts = {"a1": GOOD["content"], "a2": BAD["content"], "a3": "多喝。"}
    for name in answers:
        messages[name] = {
            "id": name,
            "parentId": "u1",
            "childrenIds": [],
            "role": "assistant",
            "content": texts[name],
            "model": "assistant",
            "modelName": "assistant",
            "modelIdx": 0,
            "timestamp": 1795000001,
            "done": True,
        }
        if name in annotations:
            messages[name]["annotation"] = {"rating": annotations[name]}
    chat = {
        "title": "Water",
        "models": ["assistant"],
        "params": {"system": "Be brief."},
        "history": {"messages": messages, "currentId": rated},
        "messages": [],
    }
    others = [name for name in answers if name != rated]
    return {
        "id": f"feedback-{rated}",
        "user_id": "user-1",
        "version": 0,
        "type": "rating",
        "data": {
            "rating": thumb,
            "model_id": "assistant",
            **({"sibling_model_ids": ["assistant"] * len(others)} if others else {}),
            "reason": "accurate_information",
            "comment": "",
            "tags": ["health"],
            "details": {"rating": 9},
        },
        "meta": {
            "arena": False,
            "model_id": "assistant",
            "message_id": rated,
            "message_index": 2,
            "chat_id": "chat-1",
            "base_models": {"assistant": None},
        },
        "snapshot": {"chat": {"id": "chat-1", "user_id": "user-1", "title": "Water", "chat": chat}},
        "created_at": 1795000002,
        "updated_at": 1795000003,
    }
