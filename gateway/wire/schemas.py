"""JSON schemas that clients send for an engine to obey: bounded, without references to elsewhere or without end. Pure.

An engine makes a grammar of a schema. A reference that leads back to itself without passing a property or an item never
ends there, and references that double at each step grow without bound; both are refused here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec
from msgspec import Raw

from gateway.errors import InvalidRequest
from gateway.settings import SurfaceSettings
from gateway.wire.json_body import invalid_value, is_deeper, json_text

Schema = dict[str, Any]

IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
IN_PLACE = ("not", "if", "then", "else")
IN_PLACE_MAPS = ("dependentSchemas", "dependencies")
BELOW_LISTS = ("prefixItems", "items")
BELOW = (
    "items", "additionalItems", "additionalProperties", "contains", "propertyNames", "unevaluatedItems",
    "unevaluatedProperties", "contentSchema",
)  # fmt: skip
BELOW_MAPS = ("properties", "patternProperties")
DEFINITIONS = ("$defs", "definitions")
ELSEWHERE = ("$dynamicRef", "$recursiveRef")

LONG_NUMBER = re.compile(rb"\d{19}")
INTEGERS = range(-(2**63), 2**63)

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def checked_schema(raw: Raw, param: str, surface: SurfaceSettings) -> Raw:
    """The schema written anew. Raises `InvalidRequest` for one that no engine should be given."""
    given = bytes(raw)
    if len(given) > surface.max_schema_bytes:
        raise invalid_value(param, f"must be at most {surface.max_schema_bytes} bytes of JSON")
    try:
        schema = _decode(given)
        written = _encode(schema)
    except (ValueError, RecursionError) as error:
        raise invalid_value(param, "must be a JSON schema: an object, not nested too deep") from error
    # No schema is deeper than it has brackets, and most have few.
    if written.count(b"{") + written.count(b"[") > surface.max_json_depth and is_deeper(schema, surface.max_json_depth):
        raise invalid_value(param, f"is nested more than {surface.max_json_depth} levels deep; move parts to `$defs`")
    if LONG_NUMBER.search(written) and not _all_fit(schema):
        raise invalid_value(param, "must not hold whole numbers beyond 64 bits")
    if b'Ref"' in written or b'$ref"' in written:
        _check_references(schema, param, surface)
    return Raw(written)


class _Graph:
    """Every subschema that can be reached, and where each leads: in place, or below through a property or an item."""

    def __init__(self, root: Schema, param: str) -> None:
        self._root, self._param = root, param
        self._resolved: dict[str, Schema] = {}
        self.in_place: dict[int, list[int]] = {}
        self.below: dict[int, list[int]] = {}
        waiting = [root]
        while waiting:
            node = waiting.pop()
            if id(node) in self.in_place:
                continue
            near = [*_in_place(node), *self._referred(node)]
            far = list(_below(node))
            self.in_place[id(node)] = [id(other) for other in near]
            self.below[id(node)] = [id(other) for other in far]
            waiting += near + far + [schema for name in DEFINITIONS for schema in _mapped(node.get(name))]

    def _referred(self, node: Schema) -> Iterator[Schema]:
        for name in ELSEWHERE:
            if name in node:
                raise self._refused(f"must not use `{name}`; refer with `$ref`")
        reference = node.get("$ref")
        if reference is None:
            return
        if not isinstance(reference, str):
            raise self._refused("must have texts in `$ref`")
        if reference not in self._resolved:
            self._resolved[reference] = self._resolve(reference)
        yield self._resolved[reference]

    def _resolve(self, reference: str) -> Schema:
        if reference != "#" and not reference.startswith("#/"):
            raise self._refused(
                f"must refer to its own parts alone, such as `#/$defs/name`, not {json_text(reference)}"
            )
        found: Any = self._root
        for step in reference.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict):
                found = found.get(name)
            elif isinstance(found, list) and name.isdecimal() and len(name) < 9 and int(name) < len(found):
                found = found[int(name)]
            else:
                found = None
        if found is True or found is False:
            return {}
        if not isinstance(found, dict):
            raise self._refused(f"refers to {json_text(reference)}, which is no schema in it")
        return found

    def _refused(self, must: str) -> InvalidRequest:
        return invalid_value(self._param, must)


def _check_references(root: Schema, param: str, surface: SurfaceSettings) -> None:
    graph = _Graph(root, param)
    for group in _groups(graph.in_place):
        if len(group) > 1 or group[0] in graph.in_place[group[0]]:
            raise invalid_value(param, "has a `$ref` that leads back to itself without passing a property or an item")
    everywhere = {node: [*near, *graph.below[node]] for node, near in graph.in_place.items()}
    if _written_out(everywhere, id(root)) > surface.max_schema_nodes:
        raise invalid_value(
            param,
            f"has more than {surface.max_schema_nodes} subschemas once references are written out; use fewer `$ref`",
        )


def _written_out(edges: Mapping[int, Sequence[int]], root: int) -> int:
    """How many subschemas there are once each reference is replaced by what it refers to; a recursion counts once."""
    group_of: dict[int, int] = {}
    sizes: list[int] = []
    for number, group in enumerate(_groups(edges)):
        group_of.update(dict.fromkeys(group, number))
        outside = sum(sizes[group_of[other]] for node in group for other in edges[node] if group_of[other] != number)
        sizes.append(min(len(group) + outside, 1 << 62))
    return sizes[group_of[root]]


def _groups(edges: Mapping[int, Sequence[int]]) -> Iterator[list[int]]:
    """Nodes that lead to each other, together; a group comes after all that it leads to (Tarjan 1972)."""
    order: dict[int, int] = {}
    lowest: dict[int, int] = {}
    pending: list[int] = []
    open_nodes: set[int] = set()
    for start in edges:
        path = [] if start in order else [(start, iter(edges[start]))]
        while path:
            node, rest = path[-1]
            if node not in order:
                order[node] = lowest[node] = len(order)
                pending.append(node)
                open_nodes.add(node)
            following = next(rest, None)
            if following is None:
                path.pop()
                if path:
                    lowest[path[-1][0]] = min(lowest[path[-1][0]], lowest[node])
                if lowest[node] == order[node]:
                    group = [pending.pop()]
                    while group[-1] != node:
                        group.append(pending.pop())
                    open_nodes.difference_update(group)
                    yield group
            elif following not in order:
                path.append((following, iter(edges[following])))
            elif following in open_nodes:
                lowest[node] = min(lowest[node], order[following])


def _in_place(node: Schema) -> Iterator[Schema]:
    yield from _schemas(node.get(name) for name in IN_PLACE)
    for name in IN_PLACE_LISTS:
        yield from _listed(node.get(name))
    for name in IN_PLACE_MAPS:
        yield from _mapped(node.get(name))


def _below(node: Schema) -> Iterator[Schema]:
    yield from _schemas(node.get(name) for name in BELOW)
    for name in BELOW_LISTS:
        yield from _listed(node.get(name))
    for name in BELOW_MAPS:
        yield from _mapped(node.get(name))


def _listed(value: Any) -> Iterator[Schema]:
    return _schemas(value if isinstance(value, list) else ())


def _mapped(value: Any) -> Iterator[Schema]:
    return _schemas(value.values() if isinstance(value, dict) else ())


def _schemas(values: Any) -> Iterator[Schema]:
    return (value for value in values if isinstance(value, dict))


def _all_fit(value: Any) -> bool:
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, dict):
            waiting += inner.values()
        elif isinstance(inner, list):
            waiting += inner
        elif isinstance(inner, int) and inner not in INTEGERS:
            return False
    return True
