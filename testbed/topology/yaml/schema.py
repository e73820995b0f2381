"""The JSON Schema of topologies (draft 2020-12), made from the grammar, for editors."""

from __future__ import annotations

from typing import Any

import msgspec

from testbed.topology.values.shapes import (
    Either,
    Items,
    Key,
    Named,
    OneOf,
    OneOrMore,
    Record,
    Scalar,
    Shape,
    Table,
    Variants,
)
from testbed.topology.yaml import grammar
from testbed.topology.yaml.options import UNITS, FunctionOptions, option_fields, unit_of


def json_schema(functions: FunctionOptions | None = None) -> dict[str, Any]:
    """The schema as JSON-compatible data.

    functions: middlebox functions by name with the types of their options, as for `load`; when
    given, names and options of functions are described too.
    """
    return _SchemaBuilder(functions).build()


class _SchemaBuilder:
    def __init__(self, functions: FunctionOptions | None) -> None:
        self._functions = functions
        self._defs: dict[str, Any] = {}

    def build(self) -> dict[str, Any]:
        body = self._record(grammar.TOPOLOGY)
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "testbed topology",
            **body,
            "$defs": dict(sorted(self._defs.items())),
        }

    def _shape(self, shape: Shape) -> dict[str, Any]:
        match shape:
            case Scalar() | OneOf():
                self._defs[shape.name] = {"title": shape.expects, **shape.schema}
                return {"$ref": f"#/$defs/{shape.name}"}
            case Items():
                most = {} if shape.most is None else {"maxItems": shape.most}
                least = {"minItems": shape.least} if shape.least else {}
                return {"type": "array", "items": self._shape(shape.item), **least, **most}
            case OneOrMore():
                return {"anyOf": [self._shape(shape.item), self._shape(Items(shape.item, 1, 2))]}
            case Record():
                if shape.name not in self._defs:
                    self._defs[shape.name] = {}  # taken, should a record ever contain itself
                    self._defs[shape.name] = self._record(shape)
                return {"$ref": f"#/$defs/{shape.name}"}
            case Table():
                return self._table(shape)
            case Named():
                return self._named(shape)
            case Either():
                return {"anyOf": [self._shape(shape.plain), self._shape(shape.full)]}
            case Variants():
                return {"anyOf": [self._variant(shape, word) for word in shape.records]}

    def _variant(self, shape: Variants, word: str) -> dict[str, Any]:
        tag = shape.tag.name
        record = self._record(shape.records[word])
        return {
            **record,
            "properties": {tag: {"const": word}, **record["properties"]},
            "required": [tag, *record.get("required", [])],
        }

    def _record(self, shape: Record) -> dict[str, Any]:
        required = [key.name for key in shape.keys if key.required]
        return {
            "description": shape.description,
            "type": ["object", "null"] if shape.empty else "object",
            "properties": {key.name: self._key(key) for key in shape.keys},
            **({"required": required} if required else {}),
            "additionalProperties": False,
        }

    def _key(self, key: Key) -> dict[str, Any]:
        default = f" Default: {key.default}." if key.default else ""
        return {**self._shape(key.shape), "description": key.description + default}

    def _table(self, shape: Table) -> dict[str, Any]:
        return {
            "type": "object",
            "propertyNames": self._shape(shape.key),
            "additionalProperties": self._shape(shape.value),
            **({"minProperties": shape.least} if shape.least else {}),
        }

    def _named(self, shape: Named) -> dict[str, Any]:
        if self._functions is None:
            name = self._shape(shape.name)
            options: dict[str, Any] = {"type": ["object", "null"]}
            properties: dict[str, Any] = {"propertyNames": name, "additionalProperties": options}
        else:
            name = {"enum": sorted(self._functions)}
            known = {key: self._options(key, kind) for key, kind in self._functions.items()}
            properties = {"properties": known, "additionalProperties": False}
        one = {"type": "object", "minProperties": 1, "maxProperties": 1, **properties}
        return {"anyOf": [name, one]}

    def _options(self, function: str, options: type[msgspec.Struct]) -> dict[str, Any]:
        prefix = f"{function}-"
        (schema,), components = msgspec.json.schema_components(
            [options], ref_template=f"#/$defs/{prefix}{{name}}"
        )
        own: dict[str, Any] = components.pop(schema["$ref"].removeprefix(f"#/$defs/{prefix}"))
        self._defs.update({f"{prefix}{name}": part for name, part in components.items()})
        for field in option_fields(options):
            unit = unit_of(field.type)
            if unit is not None:
                own["properties"][field.encode_name] = self._shape(UNITS[unit])
        return {**own, "type": ["object", "null"], "additionalProperties": False}
