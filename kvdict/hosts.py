"""Hosts: which of them are this machine."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Tell whether the name or address is this machine's own: what is sent there stays here."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return f".{host.rstrip('.')}".endswith(".localhost")
