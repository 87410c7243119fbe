"""Keeps web pages of elsewhere away from a service that asks nobody for a key.

A page can have its visitor's browser send requests to loopback, and, by a name of its own that it lets point there
(DNS rebinding), read the answers. A browser tells where a page is from, and by which name it asks.
"""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

from deployments.addresses import is_loopback
from graph.errors import Forbidden

_OWN_NAMES = re.compile(r"[^.]+|.*\.(localhost|local|internal)")
"""Names that nobody outside can let point anywhere."""


def check_origin(origin: str, host: str, *, on_loopback: bool) -> None:
    """Raise `Forbidden` unless the page that asks, if one does, and the name by which it asks are this service's.

    By which names a service is asked that listens on further addresses, its operator knows: they may be any.
    """
    name = _name(host)
    page = (urlsplit(origin).hostname or "").lower()
    if origin and not is_loopback(page) and (on_loopback or page != name):
        raise Forbidden(f"pages of {origin[:200]!r} may not use a service that asks for no key")
    if on_loopback and name and not _is_own(name):
        raise Forbidden(f"a service that asks for no key is not asked as {name[:200]!r}: use localhost, or set a key")


def _name(host: str) -> str:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return name.strip("[]").rstrip(".").lower()


def _is_own(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return bool(_OWN_NAMES.fullmatch(name)) or name == socket.gethostname().lower()
    return True
