"""The YAML reference, made from the grammar.

`python -m testbed.topology.yaml.reference > docs/topology.md` writes the page anew.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator

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
    Single,
    Table,
    Variants,
)
from testbed.topology.yaml import grammar

_INTRODUCTION = """\
# Topologies in YAML

<!-- Made by `python -m testbed.topology.yaml.reference > docs/topology.md`; do not edit. -->

A topology describes a network: its nodes, the links between them and what to capture. What it
leaves out (addresses, routes, interface names) is planned; what it says is kept.

```yaml
name: docomo
description: One second late behind a TCP setup proxy
scenario: docomo
nodes:
  gateway: {congestion_control: reno, routes: [{to: server, rto_min: 1s}]}
  router:  {kind: middlebox, outside: gateway, functions: [setup-proxy: {handshake_data: drop}]}
  server:  {sysctls: {net.ipv4.tcp_syncookies: 0}}
links:
  - endpoints: [gateway:eth0, router:outside]
    delay: 10ms
  - endpoints: [router:inside, server:eth0]
captures: [gateway:eth0, server:eth0]
```

All faults of a file are reported at once, each with its line, the key, what was expected and
what was got. `testbed schema` prints the JSON Schema for editors.
"""

_RULES = """\
## How the blanks are filled

- **Interface names**: an endpoint without one takes the next free of eth0, eth1, ... (of a
  switch: port1, port2, ...), in order of the links.
- **Groups**: `hosts: {count: 50}` makes hosts1 to hosts50. `hosts` as an endpoint stands for one
  link per member, as a capture for all of them, as the target of a route for a route to each.
- **Subnets**: links joined by switches are one network with one IPv4 and one IPv6 subnet:
  10.0.1.0/24, 10.0.2.0/24, ... and fd00:0:0:1::/64, fd00:0:0:2::/64, ..., larger ones where more
  interfaces need them. A subnet or address that the topology gives is kept and avoided by all
  others; one may lie within another, which leaves its addresses free. A link with an MTU below
  1280 has no IPv6 (RFC 8200 section 5).
- **Private links**: those that one router or middlebox forwards between are a region of their
  own. Nobody outside has routes into it, so that other regions may have the same subnets and
  addresses: 192.168.1.0/24 behind each of two NATs.
- **Loopback addresses** (of `lo`) are reached from everywhere, by whichever link is there.
- **Addresses**: host numbers from 1 on, in order of the links. Interfaces of switches have none.
- **Routes**: shortest paths over routers and middleboxes (hosts never forward), in as few
  prefixes as possible. A host with a single forwarding neighbour has a default route.
  A network that is not connected has no routes between its parts, which is no fault.
- **Your routes**: without `via`, the planned next hop is kept and the settings are added: for a
  node as `to`, to each of its addresses (/32 and /128), even when it is directly connected.
- **Congestion control** of a node is set on all of its routes, connected ones included.
- **Impairments** of `forward` and `reverse` replace the link's common ones key by key; a queue, a
  jitter or a model is replaced as a whole.
- **Schedules** start when the lab is ready, captures included.
- **TTL**: when a path crosses more than 60 routers, all nodes send with 255.

## Values

YAML 1.2: `yes`, `no` and `on` are text; tags, merge keys (`<<`) and duplicate keys are refused.
"""


def reference_markdown() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    parts += [_record(record) for record in _records(grammar.TOPOLOGY)]
    parts.append(_RULES)
    parts.append("\n".join(_values()))
    return "\n".join(parts).rstrip() + "\n"


def _records(top: Record) -> list[Record]:
    """The record and all below it, each once, in the order in which a reader meets them."""
    found = {top.name: top}
    for key in top.keys:
        for inner in _inner(key.shape):
            for record in _records(inner):
                found.setdefault(record.name, record)
    return list(found.values())


def _inner(shape: Shape) -> list[Record]:
    match shape:
        case Record():
            return [shape]
        case Items():
            return _inner(shape.item)
        case Table():
            return _inner(shape.value)
        case Either():
            return _inner(shape.full)
        case Variants():
            return [_tagged(shape, word) for word in shape.records]
    return []


def _tagged(shape: Variants, word: str) -> Record:
    """A variant with its tag as a key like the others."""
    tag = dataclasses.replace(shape.tag, description=f"`{word}`.")
    record = shape.records[word]
    return dataclasses.replace(record, own_keys=(tag, *record.keys))


def _record(record: Record) -> str:
    lines = [f"## {record.name.capitalize()}", "", record.description, ""]
    lines += ["| key | value | meaning | default |", "|---|---|---|---|"]
    lines += [_row(key) for key in record.keys]
    return "\n".join(lines) + "\n"


def _row(key: Key) -> str:
    default = "**required**" if key.required else key.default or "-"
    return f"| `{key.name}` | {_value(key.shape)} | {key.description} | {default} |"


def _value(shape: Shape) -> str:
    match shape:
        case Scalar() | OneOf():
            return f"[{shape.name}](#values)"
        case Items():
            return f"list of {_value(shape.item)}"
        case OneOrMore():
            return f"{_value(shape.item)}, or a list of them"
        case Record():
            return f"[{shape.name}](#{shape.name})"
        case Table():
            return f"mapping of {_value(shape.key)} to {_value(shape.value)}"
        case Named():
            return f"{_value(shape.name)}, or a mapping of it to its options"
        case Either():
            return f"{_value(shape.plain)} or {_value(shape.full)}"
        case Variants():
            return " or ".join(f"[{name}](#{name})" for name in shape.records)


def _values() -> Iterator[str]:
    found: dict[str, Single] = {}
    for record in _records(grammar.TOPOLOGY):
        for key in record.keys:
            for scalar in _scalars(key.shape):
                found.setdefault(scalar.name, scalar)
    yield "| value | is |"
    yield "|---|---|"
    for name in sorted(found):
        yield f"| {name} | {found[name].expects} |"


def _scalars(shape: Shape) -> list[Single]:
    match shape:
        case Scalar() | OneOf():
            return [shape]
        case Items() | OneOrMore():
            return _scalars(shape.item)
        case Table():
            return [shape.key, *_scalars(shape.value)]
        case Named():
            return [shape.name]
        case Either():
            return [shape.plain]
    return []


if __name__ == "__main__":
    sys.stdout.write(reference_markdown())
