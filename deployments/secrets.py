"""Secrets by reference: `${NAME}` in a spec becomes the value of an environment variable where it is used."""

from __future__ import annotations

import os
import re

from graph.errors import InvalidSpec, Problem
from graph.spec import SECRET


def resolve_secrets(text: str) -> str:
    """Replace every `${NAME}` in a string by the environment variable of that name.

    What a variable holds is taken as it is: references inside it are not followed. Raises `InvalidSpec` naming every
    variable that is not set; neither the error nor anything else carries a value.
    """
    missing = sorted({name for name in SECRET.findall(text) if not os.environ.get(name)})
    if missing:
        raise InvalidSpec([Problem("environment", name, "is not set, and a node refers to it") for name in missing])
    return SECRET.sub(_value, text)


def _value(match: re.Match[str]) -> str:
    # A trailing newline comes from files and shells, and would break a header.
    return os.environ[match[1]].strip()
