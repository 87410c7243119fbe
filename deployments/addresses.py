"""What an address says of who can reach it."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host by this name."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
