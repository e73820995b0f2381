"""Sysctls that every node starts with, so that results do not depend on the host's settings."""

from __future__ import annotations

from types import MappingProxyType

# A new namespace copies some settings from the host (IPv4 device settings, buffer sizes) and
# has others that disturb experiments (remembered metrics, duplicate address detection).
PINNED_SYSCTLS = MappingProxyType(
    {
        "net.ipv4.conf.all.rp_filter": "0",
        "net.ipv4.conf.default.rp_filter": "0",
        "net.ipv4.conf.all.send_redirects": "0",
        "net.ipv4.conf.default.send_redirects": "0",
        "net.ipv4.tcp_no_metrics_save": "1",
        "net.ipv4.tcp_rmem": "4096 131072 6291456",
        "net.ipv4.tcp_wmem": "4096 16384 4194304",
        "net.ipv6.conf.all.disable_ipv6": "0",
        "net.ipv6.conf.default.disable_ipv6": "0",
        "net.ipv6.conf.default.accept_dad": "0",
        "net.ipv6.conf.default.accept_ra": "0",
        "net.ipv6.conf.default.addr_gen_mode": "1",
        "net.ipv6.conf.default.router_solicitations": "0",
    }
)
