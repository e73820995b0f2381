"""Sysctls that every node starts with, so that results do not depend on the host's settings."""

from __future__ import annotations

from types import MappingProxyType

# A new namespace copies some settings from the host (IPv4 device settings, which Docker and systemd
# change; buffer sizes) and has others that disturb experiments (remembered metrics, duplicate
# address detection). Order matters: ip_forward sets some of those that follow.
PINNED_SYSCTLS = MappingProxyType(
    {
        "net.ipv4.ip_forward": "0",
        **{
            f"net.ipv4.conf.{which}.{setting}": "0"
            for setting in (
                "rp_filter",
                "accept_redirects",
                "send_redirects",
                "accept_source_route",
                "arp_announce",
                "arp_filter",
                "arp_ignore",
                "proxy_arp",
            )
            for which in ("all", "default")
        },
        "net.ipv4.tcp_no_metrics_save": "1",
        "net.ipv4.tcp_rmem": "4096 131072 6291456",
        "net.ipv4.tcp_wmem": "4096 16384 4194304",
        "net.ipv6.conf.all.disable_ipv6": "0",
        "net.ipv6.conf.default.disable_ipv6": "0",
        "net.ipv6.conf.default.accept_dad": "0",
        "net.ipv6.conf.default.accept_ra": "0",
        "net.ipv6.conf.default.addr_gen_mode": "1",
        "net.ipv6.conf.default.router_solicitations": "0",
        # The second announcement of each multicast group: not in the middle of an experiment.
        "net.ipv6.conf.default.mldv1_unsolicited_report_interval": "86400000",
        "net.ipv6.conf.default.mldv2_unsolicited_report_interval": "86400000",
    }
)
