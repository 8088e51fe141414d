"""Input items as chat messages. Pure."""

from collections.abc import Sequence
from typing import Any

from gateway.wire.json_body import invalid_value, json_text, unknown_parameter, unsupported_parameter

ROLES = ("user", "assistant", "system", "developer")
TEXT_PARTS = ("input_text", "output_text", "text")
MESSAGE_FIELDS = {"type", "role", "content", "id", "status", "phase"}
CALL_FIELDS = {"type", "arguments", "call_id", "name", "id", "status", "async", "caller", "namespace"}
OUTPUT_FIELDS = {"type", "call_id", "output", "id", "status", "caller", "name", "namespace"}

Message = dict[str, Any]


def chat_messages(instructions: str | None, given: str | Sequence[dict[str, Any]]) -> list[Message]:
    """The messages that say the same. Reasoning of earlier turns is left out: chat templates do not show it again.

    Raises `InvalidRequest` naming the item.
    """
    messages: list[Message] = [] if instructions is None else [{"role": "system", "content": instructions}]
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    for number, item in enumerate(given):
        place, kind = f"input[{number}]", item.get("type") or ("item_reference" if _points(item) else "message")
        if kind == "message":
            messages.append(_message(place, item))
        elif kind == "function_call":
            _add_call(messages, place, item)
        elif kind == "function_call_output":
            messages.append(_output(place, item))
        elif kind == "item_reference":
            raise unsupported_parameter(f"{place}.type", "this server keeps no items; send the item itself")
        elif kind != "reasoning":
            raise unsupported_parameter(f"{place}.type", f"{json_text(kind)} belongs to tools that are not hosted here")
    return messages


def _points(item: dict[str, Any]) -> bool:
    return "id" in item and "role" not in item


def _message(place: str, item: dict[str, Any]) -> Message:
    _only(place, item, MESSAGE_FIELDS)
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise invalid_value(f"{place}.role", f"must be one of {', '.join(ROLES)}")
    if isinstance(content, str):
        return {"role": role, "content": content}
    if not isinstance(content, list) or not content:
        raise invalid_value(f"{place}.content", "must be a string or a list of parts")
    parts = [_part(f"{place}.content[{number}]", part) for number, part in enumerate(content)]
    if all(part["type"] == "text" for part in parts):
        # Roles other than `user` are text alone to chat templates; one text part is the text itself.
        if len(parts) == 1 or role != "user":
            return {"role": role, "content": "".join(part["text"] for part in parts)}
    elif role != "user":
        raise invalid_value(f"{place}.content", f"must be text alone in a message of the role `{role}`")
    return {"role": role, "content": parts}


def _part(place: str, part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in TEXT_PARTS:
        return {"type": "text", "text": _text(place, part, "text")}
    if kind == "refusal":
        return {"type": "text", "text": _text(place, part, "refusal")}
    if kind != "input_image":
        raise unsupported_parameter(f"{place}.type", f"{json_text(kind)} cannot be read here; send `input_text`")
    if part.get("image_url") is None:
        raise unsupported_parameter(f"{place}.file_id", "this server keeps no files; send the image in `image_url`")
    image = {"url": _text(place, part, "image_url"), "detail": part.get("detail")}
    return {"type": "image_url", "image_url": {name: value for name, value in image.items() if value is not None}}


def _add_call(messages: list[Message], place: str, item: dict[str, Any]) -> None:
    """Calls that one turn made stand in one message, with the text of that turn if there is one."""
    _only(place, item, CALL_FIELDS)
    function = {"name": _text(place, item, "name"), "arguments": _text(place, item, "arguments")}
    call = {"id": _text(place, item, "call_id"), "type": "function", "function": function}
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    messages[-1].setdefault("tool_calls", []).append(call)


def _output(place: str, item: dict[str, Any]) -> Message:
    _only(place, item, OUTPUT_FIELDS)
    output = item.get("output")
    if isinstance(output, list):
        parts = [_part(f"{place}.output[{number}]", part) for number, part in enumerate(output)]
        if any(part["type"] != "text" for part in parts):
            raise unsupported_parameter(f"{place}.output", "only text can be read here; say in words what it shows")
        output = "".join(part["text"] for part in parts)
    if not isinstance(output, str):
        raise invalid_value(f"{place}.output", "must be a string or a list of text parts")
    return {"role": "tool", "tool_call_id": _text(place, item, "call_id"), "content": output}


def _text(place: str, holder: dict[str, Any], name: str) -> str:
    value = holder.get(name)
    if not isinstance(value, str):
        raise invalid_value(f"{place}.{name}", "must be a string")
    return value


def _only(place: str, item: dict[str, Any], known: set[str]) -> None:
    for name in sorted(item.keys() - known):
        raise unknown_parameter(f"{place}.{name[:100]}")
