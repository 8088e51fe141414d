"""A schema is given to an engine only if it is bounded, refers to itself alone, and comes to an end."""

import json
from typing import Any

import pytest
from msgspec import Raw

from gateway.errors import InvalidRequest
from gateway.settings import SurfaceSettings
from gateway.wire.chat import parse_chat_request
from gateway.wire.schemas import checked_schema

SURFACE = SurfaceSettings()
TEXT = {"type": "string"}


def checked(schema: Any, surface: SurfaceSettings = SURFACE) -> Any:
    return json.loads(bytes(checked_schema(Raw(json.dumps(schema).encode()), "schema", surface)))


def refusal(schema: Any, surface: SurfaceSettings = SURFACE) -> str:
    with pytest.raises(InvalidRequest) as refused:
        checked(schema, surface)
    assert (refused.value.code, refused.value.param) == ("invalid_value", "schema")
    return refused.value.message


def nested(levels: int) -> dict[str, Any]:
    """A schema of `levels` objects within each other."""
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


def doubling(steps: int) -> dict[str, Any]:
    """Written out, each step holds the next one twice: 2 to the power of `steps` texts."""
    definitions: dict[str, Any] = {f"d{steps}": TEXT}
    for step in range(steps):
        following = {"$ref": f"#/$defs/d{step + 1}"}
        definitions[f"d{step}"] = {"type": "object", "properties": {"left": following, "right": following}}
    return {"$defs": definitions, "$ref": "#/$defs/d0"}


TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"name": TEXT, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
        }
    },
    "$ref": "#/$defs/node",
}
LIST = {"type": "object", "properties": {"value": TEXT, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        TREE,
        LIST,
        {"$ref": "#/definitions/a%20b~1c", "definitions": {"a b/c": TEXT}},
        {"anyOf": [TEXT, {"$ref": "#/anyOf/0"}]},
        {"properties": {"$ref": TEXT}},
        {"const": {"$ref": "https://example.org"}},
        {"enum": [{"$ref": "#/nowhere"}]},
        {"$defs": {"any": True}, "$ref": "#/$defs/any"},
        {"maximum": 2**63 - 1, "minimum": -(2**63), "pattern": "1234567890123456789012345"},
    ],
)
def test_schemas_as_libraries_write_them_pass_unchanged(schema: dict[str, Any]) -> None:
    assert checked(schema) == schema


@pytest.mark.parametrize(
    "reference",
    [
        "https://example.org/schema.json",
        "http://127.0.0.1:1/",
        "file:///etc/passwd",
        "other.json#/a",
        "#anchor",
        "#/$defs/missing",
        "#/$defs/here/type",
        "#/required/5",
        "#/required/00000000000000000000000000001",
        "",
        7,
    ],
)
def test_a_reference_to_elsewhere_or_to_nothing_is_refused(reference: Any) -> None:
    refusal({"$defs": {"here": TEXT}, "required": ["a"], "properties": {"a": {"$ref": reference}}})


def test_dynamic_references_are_refused() -> None:
    for name in ("$dynamicRef", "$recursiveRef"):
        assert name in refusal({"items": {name: "#"}})


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"$defs": {"a": {"anyOf": [TEXT, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
        {"$defs": {"a": {"allOf": [{"not": {"$ref": "#/$defs/a"}}]}}},
        {"properties": {"x": {"if": {"$ref": "#/properties/x"}}}},
        {"items": {"oneOf": [{"then": {"$ref": "#/items"}}]}},
        {"dependentSchemas": {"x": {"$ref": "#"}}},
    ],
)
def test_a_loop_that_passes_no_property_or_item_is_refused(schema: dict[str, Any]) -> None:
    assert "leads back to itself" in refusal(schema)


def test_a_chain_of_a_thousand_references_is_no_loop() -> None:
    definitions: dict[str, Any] = {f"d{step}": {"$ref": f"#/$defs/d{step + 1}"} for step in range(1000)}
    schema = {"$defs": definitions | {"d1000": TEXT}, "$ref": "#/$defs/d0"}
    assert checked(schema) == schema
    definitions["d1000"] = {"$ref": "#/$defs/d0"}
    assert "leads back to itself" in refusal({"$defs": definitions, "$ref": "#/$defs/d0"})


def test_references_that_double_are_bounded() -> None:
    # A step is itself, two references and two of the next: s(n) = 3 + 2 s(n - 1) = 4 * 2^n - 3, and one for the root.
    assert checked(doubling(12), SurfaceSettings(max_schema_nodes=16_382))
    assert "16381" in refusal(doubling(12), SurfaceSettings(max_schema_nodes=16_381))
    assert "20000" in refusal(doubling(400))


def test_a_recursion_counts_once() -> None:
    """Thirty kinds that each may hold any other, as a syntax tree has them, are no bomb."""
    every = {"anyOf": [{"$ref": f"#/$defs/k{number}"} for number in range(30)]}
    kind = {"type": "object", "properties": {"left": every, "right": every}}
    assert checked({"$defs": {f"k{number}": kind for number in range(30)}, "$ref": "#/$defs/k0"})


def test_size_and_depth_are_bounded() -> None:
    assert "65536 bytes" in refusal({"description": "x" * 65536})
    assert "64 levels" in refusal(nested(65))
    assert checked(nested(64))
    with pytest.raises(InvalidRequest, match="must be a JSON schema"):
        checked_schema(Raw(b'{"items":' * 5000 + b"{}" + b"}" * 5000), "schema", SURFACE)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**40])
def test_whole_numbers_beyond_64_bits_are_refused(value: int) -> None:
    assert "64 bits" in refusal({"items": [{"enum": ["x", value]}]})


@pytest.mark.parametrize("raw", [b"[]", b"true", b'"x"', b'{"a":1e999}', b'{"a":"\xff"}', b'{"a":"\\ud800"}'])
def test_what_is_no_schema_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        checked_schema(Raw(raw), "schema", SURFACE)
    assert refused.value.code == "invalid_value"


def test_a_schema_is_written_anew() -> None:
    raw = Raw(b' { "type" : "string", "type": "integer" } ')
    assert bytes(checked_schema(raw, "schema", SURFACE)) == b'{"type":"integer"}'


def test_the_schemas_of_all_tools_are_bounded_together() -> None:
    def tool(number: int) -> dict[str, Any]:
        parameters = {"type": "object", "description": "x" * 1000}
        return {"type": "function", "function": {"name": f"f{number}", "parameters": parameters}}

    tools = [tool(number) for number in range(10)]
    body = {"model": "a", "messages": [{"role": "user", "content": "hi"}], "tools": tools}
    raw = json.dumps(body).encode()
    assert parse_chat_request(raw, SurfaceSettings(max_schemas_bytes=11_000)).asks_grammar
    with pytest.raises(InvalidRequest, match="10000 bytes") as refused:
        parse_chat_request(raw, SurfaceSettings(max_schemas_bytes=10_000))
    assert refused.value.param == "tools"


def test_a_schema_that_is_refused_is_named_by_its_place() -> None:
    tools = [
        {"type": "function", "function": {"name": name, "parameters": parameters}}
        for name, parameters in (("good", {"type": "object"}), ("bad", {"$ref": "#"}))
    ]
    body = {"model": "a", "messages": [{"role": "user", "content": "hi"}], "tools": tools}
    with pytest.raises(InvalidRequest) as refused:
        parse_chat_request(json.dumps(body).encode(), SURFACE)
    assert refused.value.param == "tools[1].function.parameters"
