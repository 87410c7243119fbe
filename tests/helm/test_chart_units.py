"""The chart's own unit tests, in the format of helm-unittest: `helm unittest helm/modelyard` runs the same files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_tools import CHART, Helm, Refused

ABSENT = object()


def cases() -> Iterator[Any]:
    for file in sorted((CHART / "tests").glob("*_test.yaml")):
        suite = yaml.safe_load(file.read_text())
        for test in suite["tests"]:
            templates = [test["template"]] if "template" in test else test.get("templates", suite["templates"])
            yield pytest.param(templates, test.get("set", {}), test["asserts"], id=f"{file.stem}: {test['it']}")


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Return values whose keys are paths as a tree."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split(".")
        at = tree
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = value
    return tree


def at_path(document: Any, path: str) -> Any:
    for name, index, quoted in re.findall(r"([\w-]+)|\[(\d+)\]|\[\"([^\"]+)\"\]", path):
        key = int(index) if index else name or quoted
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            return ABSENT
    return document


def holds(kind: str, wanted: dict[str, Any], documents: list[Any]) -> bool:
    """Say whether one assertion holds for every document."""
    if kind == "hasDocuments":
        return len(documents) == wanted["count"]
    found = [at_path(document, wanted["path"]) if "path" in wanted else document for document in documents]
    check = {
        "isKind": lambda value: value["kind"] == wanted["of"],
        "isAPIVersion": lambda value: value["apiVersion"] == wanted["of"],
        "equal": lambda value: value == wanted["value"],
        "notExists": lambda value: value is ABSENT,
        "matchRegex": lambda value: re.search(wanted["pattern"], value) is not None,
        "notMatchRegex": lambda value: re.search(wanted["pattern"], value) is None,
    }[kind]
    return bool(found) and all(map(check, found))


@pytest.mark.parametrize(("templates", "values", "asserts"), list(cases()))
def test_unit(helm: Helm, templates: list[str], values: dict[str, Any], asserts: list[dict[str, Any]]) -> None:
    try:
        text, refusal = helm.template(nested(values)), ""
    except Refused as refused:
        text, refusal = "", str(refused)
    parts = re.split(r"(?m)^# Source: modelyard/templates/(.*)$", text)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    texts = [part for name, part in pairs if name in templates]
    documents = [document for part in texts for document in yaml.safe_load_all(part) if document]
    for each in asserts:
        ((kind, wanted),) = each.items()
        if kind == "failedTemplate":
            assert re.search(wanted["errorPattern"], refusal)
        else:
            assert not refusal and holds(kind, wanted, documents), (each, refusal)


def test_a_wrong_claim_fails() -> None:
    document = {"kind": "A", "spec": {"list": [{"a/b": 1}]}}
    assert holds("equal", {"path": 'spec.list[0]["a/b"]', "value": 1}, [document])
    assert not holds("equal", {"path": "spec.list[1]", "value": 1}, [document])
    assert not holds("notExists", {"path": "spec.list"}, [document])
    assert not holds("isKind", {"of": "A"}, [])


def test_every_file_of_units_is_left_out_of_the_package() -> None:
    assert "/tests/" in (CHART / ".helmignore").read_text().splitlines()
    assert list(Path(CHART / "tests").glob("*_test.yaml"))
