"""Tools as a card keeps them: plain JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from router.planners.toolset import Output, Parameter, Tool, Toolset


def to_card(tools: Toolset) -> dict[str, Any]:
    """Return the tools and links as JSON."""
    return {
        "tools": [
            {**asdict(tool), "takes": sorted(tool.takes), "makes": sorted(tool.makes)} for tool in tools.tools.values()
        ],
        "links": None if tools.links is None else sorted(map(list, tools.links)),
    }


def from_card(card: Mapping[str, Any]) -> Toolset:
    """Return the tools of a card; raises `KeyError`, `TypeError` or `ValueError` if it holds none."""
    links = card.get("links")
    return Toolset.of((_tool(item) for item in card["tools"]), None if links is None else [(a, b) for a, b in links])


def _tool(item: Mapping[str, Any]) -> Tool:
    return Tool(
        item["name"],
        item["description"],
        tuple(map(_parameter, item["parameters"])),
        tuple(Output(tuple(own["path"]), own["type"], own["description"]) for own in item["outputs"]),
        frozenset(item["takes"]),
        frozenset(item["makes"]),
    )


def _parameter(item: Mapping[str, Any]) -> Parameter:
    own = dict(item)
    return Parameter(**own | {"choices": tuple(own["choices"]), "fields": tuple(map(_parameter, own["fields"]))})
