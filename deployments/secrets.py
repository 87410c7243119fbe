"""Secrets by reference: `${NAME}` in a spec becomes the value of an environment variable where it is used."""

from __future__ import annotations

import os
import re

from graph.errors import InvalidSpec, Problem
from graph.spec import SECRET

OF_A_NODE = "is not set, and a node refers to it: the variable belongs in the environment that the service starts in"
"""What is wrong with a missing variable: the service cannot learn it later, or from whoever registers the node."""


def resolve_secrets(text: str, *, missing: str = OF_A_NODE) -> str:
    """Replace every `${NAME}` in a string by the environment variable of that name.

    What a variable holds is taken as it is: references inside it are not followed. Raises `InvalidSpec` naming every
    variable that is not set, in the words of `missing`; neither the error nor anything else carries a value.
    """
    unset = sorted({name for name in SECRET.findall(text) if not os.environ.get(name)})
    if unset:
        raise InvalidSpec([Problem("environment", name, missing) for name in unset])
    return SECRET.sub(_value, text)


def _value(match: re.Match[str]) -> str:
    # A trailing newline comes from files and shells, and would break a header.
    return os.environ[match[1]].strip()
