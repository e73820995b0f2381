"""Forwarders for middlebox.py, as one would write them without a testbed.

python benchmarks/middlebox_peers.py scapy|netfilterqueue LEFT RIGHT LEFT_MAC RIGHT_MAC

They run on a router between two interfaces; the addresses are those of the hosts behind them.
Each packet is only passed on. A line is written to the descriptor TESTBED_READY_FD when it runs.
"""

from __future__ import annotations

import os
import subprocess
import sys

QUEUE = 1
NFT_RULES = f"""
table inet forwarder {{
    chain forward {{ type filter hook forward priority 0; queue num {QUEUE}; }}
}}
"""
# Kernels without nft_queue may still have the older xt_NFQUEUE.
WAYS_TO_QUEUE = (
    (["nft", "-f", "-"], NFT_RULES),
    (["iptables", "-A", "FORWARD", "-j", "NFQUEUE", "--queue-num", str(QUEUE)], None),
)


def ready() -> None:
    os.write(int(os.environ["TESTBED_READY_FD"]), b"\n")


def with_scapy(left: str, right: str, left_mac: str, right_mac: str) -> None:
    """Take frames from one interface, count the hop, send them to the host behind the other."""
    from scapy.arch import get_if_hwaddr
    from scapy.config import conf
    from scapy.layers.inet import IP
    from scapy.layers.l2 import Ether
    from scapy.sendrecv import sniff

    sockets = {name: conf.L2socket(iface=name, promisc=False) for name in (left, right)}
    ways = {sockets[left]: (sockets[right], right_mac), sockets[right]: (sockets[left], left_mac)}
    own = {left: get_if_hwaddr(right), right: get_if_hwaddr(left)}
    sniffed = {socket: name for name, socket in sockets.items()}

    def forward(frame: Ether) -> None:
        if IP not in frame:
            return
        out, mac = ways[sockets[frame.sniffed_on]]
        frame[Ether].src, frame[Ether].dst = own[frame.sniffed_on], mac
        frame[IP].ttl -= 1
        del frame[IP].chksum
        out.send(frame)

    ready()
    sniff(opened_socket=sniffed, prn=forward, store=False)


def with_netfilterqueue(*_: str) -> None:
    """Accept every forwarded packet; the kernel does the rest."""
    try:
        from netfilterqueue import NetfilterQueue
    except ImportError:
        sys.exit("NetfilterQueue is not installed (it needs libnetfilter-queue-dev to build)")
    queue_forwarded()
    queue = NetfilterQueue()
    queue.bind(QUEUE, lambda packet: packet.accept(), 10_000)
    ready()
    queue.run()


def queue_forwarded() -> None:
    """Have what this node forwards queued for a process."""
    refusals = []
    for argv, rules in WAYS_TO_QUEUE:
        try:
            loaded = subprocess.run(argv, input=rules, text=True, capture_output=True)
        except FileNotFoundError:
            refusals.append(f"{argv[0]} is not installed")
            continue
        if loaded.returncode == 0:
            return
        refusals.append(f"{argv[0]} cannot queue here: {loaded.stderr.strip().splitlines()[0]}")
    sys.exit("; ".join(refusals))


if __name__ == "__main__":
    {"scapy": with_scapy, "netfilterqueue": with_netfilterqueue}[sys.argv[1]](*sys.argv[2:])
