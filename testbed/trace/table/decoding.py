"""From frames to segments, many at a time.

The common frames (Ethernet with one tag at most, Linux cooked, raw IP; IPv4 without options and
IPv6 without extensions; whole TCP headers) are found by numpy, all others one by one by
`testbed.trace.headers`; both mean the same, and both are read from the TCP header on alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from testbed.trace.frames import Frames, Offsets, gather, gather_padded
from testbed.trace.headers import VLAN_ID, CutOff, Malformed, in_vlan, locate_tcp
from testbed.trace.source import Buffer
from testbed.trace.table.flows import FlowCache, Flows
from testbed.trace.table.options import ROOM, OptionColumns
from testbed.trace.table.segment_table import NO_IDENTIFICATION, Column, Integers
from testbed.wire.frame import ETHERNET, IPV4, IPV6, LINUX_SLL, LINUX_SLL2, RAW, TYPE_AT
from testbed.wire.ip import ECN_FIELD, IPV4_HEADER, IPV6_HEADER, IS_FRAGMENT, TCP

_TCP_HEADER: Final = 20
_LEAST_FRAME: Final = 18  # bytes that are looked at to tell what a frame holds
_VLAN_TAG: Final = 0x8100

# Of an IP header what is asked for, and the ports behind it.
_IPV4: Final = np.dtype(
    {
        "names": ["first", "total", "fragment", "protocol", "addresses", "ports"],
        "formats": ["u1", ">u2", ">u2", "u1", "u8", "u4"],
        "offsets": [0, 2, 6, 9, 12, 20],
        "itemsize": IPV4_HEADER + 4,
    }
)
_IPV6: Final = np.dtype(
    {
        "names": ["first", "length", "protocol", "addresses", "ports"],
        "formats": ["u1", ">u2", "u1", ("u8", 4), "u4"],
        "offsets": [0, 4, 6, 8, 40],
        "itemsize": IPV6_HEADER + 4,
    }
)
_TCP: Final = np.dtype(
    {
        "names": ["seq", "ack", "offset", "flags", "window", "options"],
        "formats": [">u4", ">u4", "u1", "u1", ">u2", ("u1", ROOM)],
        "offsets": [4, 8, 12, 13, 14, _TCP_HEADER],
        "itemsize": _TCP_HEADER + ROOM,
    }
)
_EITHER_IP: Final = np.dtype(
    {
        "names": ["first", "second", "ip_id", "ttl", "hop_limit"],
        "formats": ["u1", "u1", ">u2", "u1", "u1"],
        "offsets": [0, 1, 4, 8, 7],
        "itemsize": 9,
    }
)


@dataclass(frozen=True, eq=False)
class LocatedHeaders:
    """TCP headers in frames, as `headers.Located` but as columns; `row` tells the frame."""

    row: Integers
    network: Offsets
    header: Offsets
    end: Offsets
    fragment: NDArray[np.bool_]
    flow: Integers


@dataclass(frozen=True, eq=False)
class Decoded:
    """Segments of some frames: columns of a `SegmentTable`, and the flow of each by its number."""

    columns: Mapping[str, Column]
    sack_edges: NDArray[np.uint32]
    flow: Integers


class Decoder:
    """Reads frames, and counts those that hold no segment.

    others: by what they are. malformed: how many contradict themselves. cut: how many the snap
    length has cut in their headers.
    """

    def __init__(self, data: Buffer, flows: Flows) -> None:
        self.data = data
        self.flows = flows
        self.others: Counter[str] = Counter()
        self.malformed = 0
        self.cut = 0
        self._ipv4 = FlowCache(flows, 2)
        self._ipv6 = FlowCache(flows, 5)

    def decode(self, frames: Frames, first: int) -> Decoded:
        """The segments in frames, of which the first has the number `first`."""
        located = self._locate(frames)
        rows = located.row
        tcp = gather_padded(self.data, located.header, _TCP.itemsize).view(_TCP)
        header_length = (tcp["offset"] >> 2) & 0x3C
        payload = located.header + header_length
        length = located.end - payload
        behind = np.minimum(located.end, frames.end[rows]) - payload
        header_cut = np.maximum(-behind, 0)
        room = np.maximum(header_length - _TCP_HEADER - header_cut, 0)
        options = OptionColumns(tcp["options"], room)
        columns = {
            "number": rows + first,
            "time": frames.time[rows],
            "seq": tcp["seq"],
            "ack": tcp["ack"],
            "flags": tcp["flags"],
            "window": tcp["window"],
            "length": length,
            "captured": np.maximum(behind, 0),
            "options": options.options,
            "mss": options.mss,
            "window_scale": options.window_scale,
            "ts_value": options.ts_value,
            "ts_echo": options.ts_echo,
            "sack_count": options.sack_count,
            "interface": frames.interface[rows],
            "fragment": located.fragment,
            "position": located.header,
            "header_length": header_length,
            "header_cut": header_cut,
            "ip_distance": located.header - located.network,
            **self._ip_columns(located.network),
        }
        return Decoded(columns, options.sack_edges, located.flow)

    def _ip_columns(self, network: Offsets) -> dict[str, Column]:
        ip = gather_padded(self.data, network, _EITHER_IP.itemsize).view(_EITHER_IP)
        is_ipv4 = ip["first"] >> 4 == 4
        second = ip["second"]
        if is_ipv4.all():
            return {"ip_id": ip["ip_id"], "hops": ip["ttl"], "ecn": second & ECN_FIELD}
        return {
            "ip_id": np.where(is_ipv4, ip["ip_id"].astype(np.int32), NO_IDENTIFICATION),
            "hops": np.where(is_ipv4, ip["ttl"], ip["hop_limit"]),
            "ecn": np.where(is_ipv4, second, second >> 4) & ECN_FIELD,
        }

    # -- where the headers are -------------------------------------------------------------

    def _locate(self, frames: Frames) -> LocatedHeaders:
        kind, network, vlan = self._network_layer(frames)
        plain = (
            self._in_ipv4(frames, np.flatnonzero(kind == IPV4), network, vlan),
            self._in_ipv6(frames, np.flatnonzero(kind == IPV6), network, vlan),
        )
        careful = np.ones(len(frames), np.bool_)
        for part in plain:
            careful[part.row] = False
        parts = [*plain, self._locate_carefully(frames, np.flatnonzero(careful))]
        parts = [part for part in parts if len(part.row)] or parts[:1]
        if len(parts) == 1:
            return parts[0]
        order = np.argsort(np.concatenate([part.row for part in parts]), kind="stable")
        return LocatedHeaders(
            **{
                name: np.concatenate([getattr(part, name) for part in parts])[order]
                for name in vars(parts[0])
            }
        )

    def _network_layer(self, frames: Frames) -> tuple[Column, Offsets, Column]:
        """EtherType of what each frame holds, where that begins, and the VLAN.

        The type is 0 for frames that need more care.
        """
        count = len(frames)
        kind, vlan = np.zeros(count, np.uint16), np.zeros(count, np.uint16)
        network = frames.start.copy()
        links = (
            set(frames.link.tolist()) if frames.link.strides != (0,) else frames.link[:1].tolist()
        )
        for link in links:
            rows = np.flatnonzero(
                (frames.link == link) & (frames.end - frames.start >= _LEAST_FRAME)
            )
            start = frames.start[rows]
            if link == ETHERNET:
                types = gather(self.data, start + 12, 6).view(">u2").reshape(-1, 3)
                tag = types[:, 1] & VLAN_ID
                tagged = (types[:, 0] == _VLAN_TAG) & (tag > 0)
                kind[rows] = np.where(tagged, types[:, 2], types[:, 0])
                vlan[rows] = np.where(tagged, tag, 0)
                network[rows] += np.where(tagged, 18, 14)
            elif link in (LINUX_SLL, LINUX_SLL2):
                type_at, skipped = TYPE_AT[link]
                kind[rows] = gather(self.data, start + type_at, 2).view(">u2")
                network[rows] += skipped
            elif link in RAW:
                version = gather(self.data, start, 1).view(np.uint8) >> 4
                kind[rows] = np.where(version == 4, IPV4, np.where(version == 6, IPV6, 0))
        return kind, network, vlan

    def _in_ipv4(
        self, frames: Frames, rows: Integers, network: Offsets, vlan: Column
    ) -> LocatedHeaders:
        rows = rows[network[rows] + IPV4_HEADER + _TCP_HEADER <= frames.end[rows]]
        ip = gather(self.data, network[rows], _IPV4.itemsize).view(_IPV4)
        fits = (ip["first"] == 0x45) & (ip["protocol"] == TCP) & (ip["fragment"] & IS_FRAGMENT == 0)
        end = network[rows] + ip["total"]
        fits &= self._is_whole(network[rows] + IPV4_HEADER, np.minimum(end, frames.end[rows]))
        if not fits.all():
            rows, ip, end = rows[fits], ip[fits], end[fits]
        ports = ip["ports"] | vlan[rows].astype(np.uint64) << np.uint64(32)
        words = np.ascontiguousarray(ip["addresses"]), ports
        at, tags = network[rows], vlan[rows]
        flow = self._ipv4.numbers(
            words, lambda row: (self.data[at[row] + 12 : at[row] + 24], in_vlan(int(tags[row])))
        )
        return LocatedHeaders(rows, at, at + IPV4_HEADER, end, np.zeros(len(rows), np.bool_), flow)

    def _in_ipv6(
        self, frames: Frames, rows: Integers, network: Offsets, vlan: Column
    ) -> LocatedHeaders:
        rows = rows[network[rows] + IPV6_HEADER + _TCP_HEADER <= frames.end[rows]]
        ip = gather(self.data, network[rows], _IPV6.itemsize).view(_IPV6)
        fits = (ip["first"] >> 4 == 6) & (ip["protocol"] == TCP)
        end = network[rows] + IPV6_HEADER + ip["length"]
        fits &= self._is_whole(network[rows] + IPV6_HEADER, np.minimum(end, frames.end[rows]))
        if not fits.all():
            rows, ip, end = rows[fits], ip[fits], end[fits]
        ports = ip["ports"] | vlan[rows].astype(np.uint64) << np.uint64(32)
        words = [*np.ascontiguousarray(ip["addresses"].T), ports]
        at, tags = network[rows], vlan[rows]
        flow = self._ipv6.numbers(
            words, lambda row: (self.data[at[row] + 8 : at[row] + 44], in_vlan(int(tags[row])))
        )
        return LocatedHeaders(rows, at, at + IPV6_HEADER, end, np.zeros(len(rows), np.bool_), flow)

    def _is_whole(self, header: Offsets, end: Offsets) -> NDArray[np.bool_]:
        """Whether the TCP header at `header` says a length that is possible, and ends in time."""
        length = gather(self.data, header + 12, 1).view(np.uint8) >> 2 & 0x3C
        return (length >= _TCP_HEADER) & (header + length <= end)

    def _locate_carefully(self, frames: Frames, rows: Integers) -> LocatedHeaders:
        found: list[tuple[int, int, int, int, bool, int]] = []
        for row, (_, link, start, end, wire, _) in zip(
            rows.tolist(), frames.each(rows), strict=True
        ):
            try:
                located = locate_tcp(self.data, link, start, end, wire)
            except Malformed:
                self.malformed += 1
            except CutOff:
                self.cut += 1
            else:
                if isinstance(located, str):
                    self.others[located] += 1
                    continue
                flow = self.flows.number(located.key, located.around)
                found.append((row, *located[1:5], flow))
        columns = np.array(found, np.int64).reshape(-1, 6).T
        row, network, header, packet_end, fragment, flows = columns
        return LocatedHeaders(row, network, header, packet_end, fragment.astype(np.bool_), flows)
