"""YAML that means what the same words mean in JSON: a date is the text that stands there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from yaml import SafeLoader as SafeLoader
else:  # the parser written in C, where PyYAML has it: the other one takes seconds for what a document may hold
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class PlainLoader(SafeLoader):
    """A safe loader to which a date is a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way to declare them
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
