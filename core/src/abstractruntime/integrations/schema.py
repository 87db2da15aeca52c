"""JSON Schema, as far as we look at it ourselves.

A server that is given a schema mostly keeps to it; one that ignores it must not hand a node an answer of another shape.
Checked are `type`, `enum`, `const`, `required`, `properties`, `additionalProperties`, `items`, `anyOf`, `oneOf` (as
`anyOf`), `allOf` and local `$ref`; all other words are left to the server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..models import JsonDict, JsonValue

_TYPES: Mapping[str, tuple[type, ...]] = {
    "array": (list,),
    "boolean": (bool,),
    "integer": (int,),
    "null": (type(None),),
    "number": (int, float),
    "object": (dict,),
    "string": (str,),
}


def mismatch(value: JsonValue, schema: JsonDict, name: str) -> str | None:
    """The first thing in ``value`` that the schema does not allow, as a clause with its path from ``name``, or None."""
    return next(_Check(schema).problems(value, schema, name), None)


class _Check:
    def __init__(self, root: JsonDict) -> None:
        self._root = root

    def problems(self, value: JsonValue, schema: JsonValue, path: str) -> Iterator[str]:
        if schema is False:
            yield f"{path} is not allowed"
        if not isinstance(schema, dict):
            return
        yield from self._own(value, schema, path)
        if isinstance(value, dict):
            yield from self._members(value, schema, path)
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from self.problems(item, schema.get("items"), f"{path}[{index}]")

    def _own(self, value: JsonValue, schema: JsonDict, path: str) -> Iterator[str]:
        wanted = schema.get("type")
        names = [wanted] if isinstance(wanted, str) else wanted
        if isinstance(names, list) and not any(_is(value, name) for name in names):
            yield f"{path} is {_shown(value)}, not {' or '.join(map(str, names))}"
        options = schema.get("enum")
        if isinstance(options, list) and not any(_equal(value, option) for option in options):
            yield f"{path} is {_shown(value)}, not one of {', '.join(map(repr, options))}"
        if "const" in schema and not _equal(value, schema["const"]):
            yield f"{path} is {_shown(value)}, not {schema['const']!r}"
        yield from self._combined(value, schema, path)

    def _combined(self, value: JsonValue, schema: JsonDict, path: str) -> Iterator[str]:
        if isinstance(reference := schema.get("$ref"), str):
            yield from self.problems(value, self._resolved(reference), path)
        for part in _list(schema.get("allOf")):
            yield from self.problems(value, part, path)
        for word in ("anyOf", "oneOf"):
            reasons = [next(self.problems(value, option, path), None) for option in _list(schema.get(word))]
            if reasons and all(reasons):
                yield f"{path} fits none of its alternatives: {'; '.join(filter(None, reasons))}"

    def _members(self, value: JsonDict, schema: JsonDict, path: str) -> Iterator[str]:
        known = schema.get("properties")
        properties = known if isinstance(known, dict) else {}
        for key in _list(schema.get("required")):
            if key not in value:
                yield f"{path}.{key} is missing"
        for key, member in value.items():
            allowed = properties[key] if key in properties else self._additional(schema)
            yield from self.problems(member, allowed, f"{path}.{key}")

    def _additional(self, schema: JsonDict) -> JsonValue:
        # A pattern may allow what `properties` does not name, and patterns are the server's.
        return True if "patternProperties" in schema else schema.get("additionalProperties")

    def _resolved(self, reference: str) -> JsonValue:
        if not reference.startswith("#/"):
            return None  # somewhere else: the server's
        found: JsonValue = self._root
        for part in reference[2:].split("/"):
            found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        return found


def _is(value: JsonValue, name: JsonValue) -> bool:
    if not isinstance(name, str) or name not in _TYPES:
        return True
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _equal(one: JsonValue, other: JsonValue) -> bool:
    # In JSON true is not 1.
    return isinstance(one, bool) is isinstance(other, bool) and one == other


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _shown(value: JsonValue) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
