"""TCP flags and sequence numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP

from testbed.wire.flags import ACK, FIN, FLAGS, RST, SYN, flag_names, flags_of, opens_connection
from testbed.wire.sequence import MODULUS, difference, is_after

U32 = st.integers(0, MODULUS - 1)


@given(st.integers(0, 255))
def test_flags_are_those_of_scapy_and_read_back(flags):
    assert sorted(name[0] for name in flag_names(flags).split()) == sorted(
        str(TCP(flags=flags).flags)
    )
    assert flags == 0 or flags_of("+".join(flag_names(flags).split())) == flags


def test_flags_are_read_from_text():
    assert flags_of("SYN+ACK") == flags_of("SYN+ACK+SYN") == SYN | ACK
    with pytest.raises(KeyError):
        flags_of("SIN")


def test_only_a_syn_without_answer_or_end_opens_a_connection():
    others = sum(FLAGS.values()) & ~(SYN | ACK | RST | FIN)
    assert opens_connection(SYN) and opens_connection(SYN | others)
    assert not any(opens_connection(flags) for flags in (0, SYN | ACK, SYN | RST, SYN | FIN, ACK))


@given(U32, st.integers(-(2**31), 2**31 - 1))
def test_distances_wrap(number, distance):
    other = (number + distance) % MODULUS
    assert difference(other, number) == distance
    assert is_after(other, number) == (distance > 0)
