"""Names of nodes and of arguments, made from the names that others chose."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final

from graph.spec import RESERVED

MAX_NAME: Final = 63


def words_of(text: str) -> list[str]:
    """Return the words of a name, in lower case: `getHTTPStatus-byId` is get, http, status, by, id."""
    spaced = re.sub(r"([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3 \2\4", text)
    return [word.lower() for word in re.findall(r"[A-Za-z0-9]+", spaced)]


def node_name(text: str, prefix: str, taken: Container[str]) -> str:
    """Return a name for a node that no other has; a number makes it another than those taken."""
    if prefix and prefix[-1] not in "._-":
        prefix += "_"
    base = prefix.lower() + "_".join(words_of(text))
    base = base[:MAX_NAME].strip("._-") or "operation"
    if base in RESERVED:
        base = f"{base}_operation"
    name, number = base, 2
    while name in taken:
        end = f"_{number}"
        name, number = base[: MAX_NAME - len(end)].rstrip("._-") + end, number + 1
    return name


def argument_name(wire: str, where: str, taken: Container[str]) -> str:
    """Return a name for an argument that a template can hold: letters, digits and `_`."""
    base = re.sub(r"[^A-Za-z0-9_]+", "_", wire).strip("_") or where
    if base[0].isdigit():
        base = f"_{base}"
    name, number = base, 2
    if name in taken:
        name = f"{where}_{base}"
    while name in taken:
        name, number = f"{where}_{base}_{number}", number + 1
    return name


def singular(word: str) -> str:
    """Return a plural English word without its ending, near enough to compare names."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
