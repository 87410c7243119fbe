"""What is wrong with a setting, said by the name that it was given by."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic_core import ErrorDetails

PREFIX = "MODELYARD_"


def option(name: str) -> str:
    """Return a setting's name on the command line."""
    return f"--{name.replace('_', '-')}"


def told(item: ErrorDetails, given: Mapping[str, str]) -> str:
    """Say what is wrong with a setting, by the name that it was given by, or else its variable."""
    name = "_".join(map(str, item["loc"][:1]))
    if not name:  # of several settings together
        return item["msg"].removeprefix("Value error, ")
    label = given.get(name, PREFIX + name.upper())
    number = item["type"].startswith(("int_", "float_", "bool_", "literal_", "greater_", "less_"))  # never a secret
    value = f"; got {item['input']!r:.80}" if number else ""
    return f"{label}: {item['msg'].removeprefix('Value error, ')}{value}"
