"""YAML in, specs out: every kind of broken YAML, and all of it in one report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from graph.errors import InvalidSpec
from graph.loader import MAX_BYTES, MAX_PROBLEMS, dump_yaml, load_paths, load_text
from graph.node import NodeParams
from graph.spec import NodeSpec


class Deep(NodeParams):
    token: str = ""
    size: int = 1


class FakeKind:
    """Only what the loader asks of a kind."""

    class Params(NodeParams):
        temperature: float = 1.0
        headers: dict[str, int] = Field(default_factory=dict)
        deep: Deep = Deep()

    @classmethod
    def problems(cls, spec: NodeSpec) -> list[tuple[str, str]]:
        return [] if spec.model else [("model", "is required by kind 'fake'")]


KINDS: Any = {"fake": FakeKind, "other": FakeKind}
GOOD = "name: legal\nkind: fake\ndescription: Law.\nmodel: m\n"


def report(text: str | bytes) -> list[str]:
    return [str(problem) for problem in load_text(text, KINDS, "f").problems]


def test_a_good_document() -> None:
    loaded = load_text(GOOD, KINDS)
    assert loaded.problems == ()
    assert [spec.name for spec in loaded.require()] == ["legal"]
    assert (
        load_text('{"name": "legal", "kind": "fake", "description": "Law.", "model": "m"}', KINDS).specs == loaded.specs
    )


def test_two_documents_in_one_file_and_empty_ones_between() -> None:
    loaded = load_text(GOOD + "---\n---\n" + GOOD.replace("legal", "code") + "---\n", KINDS, "f")
    assert [spec.name for spec in loaded.require()] == ["legal", "code"]
    assert loaded.sources == {"legal": "f#1", "code": "f#3"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "f: declares no node"),
        ("# nothing\n---\n", "f: declares no node"),
        ("just words", "f: is plain text; a node is a mapping with at least name, kind and description"),
        ("- a\n- b", "f: is a list; a node is a mapping with at least name, kind and description"),
        (
            "description: Taxes: VAT",
            "column 19: mapping values are not allowed in this context; a text with ': ' in it",
        ),
        (GOOD + "edges: {escalates: b}\n", "f: edges.escalates: input should be a list; got 'b'"),
        ("name: [", "f: is not valid YAML at line"),
        ("\tname: a", "f: is not valid YAML at line 1, column 1: found character"),
        (GOOD + "name: twice\n", "f: line 5: key 'name' is written twice"),
        (GOOD + "? [a, b]\n: 1\n", "a key must be a plain word"),
        (GOOD + "examples: &a [x]\nparams: {x: *a}\n", "f: line 6: aliases (*a) are not allowed"),
        (GOOD + "params: " + "{a: " * 30 + "1" + "}" * 30, "f: line 5: nested deeper than 20"),
        (GOOD + "params: " + "[" * 100_000, "nested deeper than 20"),
        (GOOD + "params: {x: !!python/object/apply:os.system [id]}\n", "could not determine a constructor"),
        (GOOD + "params: {x: !!binary aGk=}\n", "could not determine a constructor"),
        (GOOD + "temprature: 1\n", "f: temprature: unknown key (did you mean 'template'?); valid keys: accepts"),
        (GOOD + "params: {temprature: 1}\n", "f: params.temprature: unknown key (did you mean 'temperature'?)"),
        (GOOD + "params: {deep: {siez: 1}}\n", "unknown key (did you mean 'size'?); valid keys: size, token"),
        (GOOD + "limits: {attemps: 1}\n", "f: limits.attemps: unknown key (did you mean 'attempts'?)"),
        (GOOD + "arguments: {q: {typ: string}}\n", "f: arguments.q.typ: unknown key (did you mean 'type'?)"),
        (
            GOOD + "outputs: {q: {typ: string}}\n",
            "f: outputs.q.typ: unknown key (did you mean 'type'?); valid keys: description, type",
        ),
        (GOOD + "outputs: {a..b: {}}\n", "f: outputs: 'a..b' must be the path of a field, such as 'orders.0.id'"),
        (GOOD + "limits: {attempts: 99}\n", "f: limits.attempts: input should be less than or equal to 10; got 99"),
        (GOOD + "params: {temperature: warm}\n", "f: params.temperature: input should be a valid number"),
        (GOOD + "params: 5\n", "f: params: input should be a mapping; got 5"),
        (GOOD + "params:\n", "f: params: input should be a mapping; got None"),
        (
            GOOD.replace("fake", "fkae"),
            "f: kind: 'fkae' is not installed (did you mean 'fake'?); installed: fake, other",
        ),
        (GOOD.replace("kind: fake\n", ""), "f: kind: is required"),
        (GOOD.replace("fake", "7"), "f: kind: input should be a text; got 7"),
        (GOOD.replace("legal", "Legal Expert"), "f: name: 'Legal Expert' must be 1 to 63 lower-case letters"),
        (
            GOOD.replace("legal", "auto"),
            "f: name: is reserved; choose a name that is none of auto, none, plan, request",
        ),
        (GOOD.replace("model: m\n", ""), "f: model: is required by kind 'fake'"),
        ("1: a\n" + GOOD, "f: 1: keys should be strings"),
        ("a: \0", "f: is not valid YAML"),
        (b"name: caf\xe9", "f: is not UTF-8: byte 9 is 0xe9"),
        (b"x" * (MAX_BYTES + 1), f"f: {MAX_BYTES + 1} bytes; at most {MAX_BYTES} are read"),
    ],
)
def test_broken_yaml_is_explained_once(text: str | bytes, expected: str) -> None:
    (problem,) = report(text)
    assert expected in problem
    with pytest.raises(InvalidSpec, match="f: "):
        load_text(text, KINDS, "f").require()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(["fake", "${K}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(sorted(NodeSpec.model_fields)) | st.text(max_size=8), VALUES, max_size=6))
def test_any_document_is_read_or_explained(fields: dict[str, Any]) -> None:
    good = yaml.safe_load(GOOD)
    for document in (fields, good | fields, fields | good):
        loaded = load_text(yaml.safe_dump(document, allow_unicode=True), KINDS, "f")
        assert bool(loaded.specs) != bool(loaded.problems)
        assert all(problem.where == "f" and problem.message for problem in loaded.problems)
        for spec in loaded.specs:
            assert load_text(dump_yaml(spec), KINDS).specs == (spec,)


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
    )
    assert report(bomb) == ["f: line 2: aliases (*a) are not allowed"]


def test_every_problem_of_a_document_is_reported() -> None:
    text = "name: Bad Name\nkind: nope\nnonsense: 1\nlimits: {attempts: 0, idle_s: x}\nedges: {fallbak: []}\n"
    keys = [problem.key for problem in load_text(text, KINDS, "f").problems]
    assert sorted(keys) == [
        "description",
        "edges.fallbak",
        "kind",
        "limits.attempts",
        "limits.idle_s",
        "name",
        "nonsense",
    ]


def test_a_flood_of_problems_is_cut() -> None:
    assert len(report(GOOD + "".join(f"x{i}: 1\n" for i in range(5000)))) == MAX_PROBLEMS


def test_names_declared_twice_say_where_first() -> None:
    assert report(GOOD + "---\n" + GOOD) == ["f#2: name: 'legal' is already declared in f#1"]


@pytest.mark.parametrize(
    "text",
    [
        "api_key: hunter2",
        "api_key: [hunter2]",
        "params: {headers: {Authorization: hunter2}}",
        "params: {deep: {token: [hunter2]}}",
        "params: {deep: [hunter2]}",
        "params: {temperature: {password: hunter2}}",
        "params: [hunter2]",
        "limits: {attempts: {key: hunter2}}",
        "endpoint: https://user:hunter2@host/v1",
        "endpoint: ftp://user:hunter2@host/v1",
    ],
)
def test_secrets_are_never_in_messages(text: str) -> None:
    problems = report(GOOD + text)
    assert problems
    assert "hunter2" not in "".join(problems)


def test_dates_stay_the_text_they_were() -> None:
    (spec,) = load_text(GOOD.replace("Law.", "2024-01-31"), KINDS).require()
    assert spec.description == "2024-01-31"


def test_files_and_folders_are_reported_all_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "nodes"
    folder.mkdir()
    (folder / "b.yaml").write_text(GOOD + "oops: 1\n")
    (folder / "a.yml").write_text(GOOD.replace("legal", "code"))
    (folder / "c.yaml").write_text(GOOD.replace("legal", "code"))
    (folder / "d.yaml").write_bytes(b"\xff")
    (folder / "e.yaml").mkdir()
    (folder / "notes.txt").write_text("not read")
    (tmp_path / "empty").mkdir()
    loaded = load_paths([folder, tmp_path / "empty", tmp_path / "missing.yaml"], KINDS)
    assert [spec.name for spec in loaded.specs] == ["code"]
    by_file = {Path(problem.where).name: problem.message for problem in loaded.problems}
    assert set(by_file) == {"b.yaml", "c.yaml", "d.yaml", "e.yaml", "empty", "missing.yaml"}
    assert by_file["missing.yaml"] == "cannot be read: No such file or directory"
    assert by_file["c.yaml"].endswith("a.yml")
    with pytest.raises(InvalidSpec) as caught:
        loaded.require()
    assert len(str(caught.value).splitlines()) == 6


def test_a_spec_dumped_as_yaml_loads_again() -> None:
    (spec,) = load_text(GOOD + "accepts: [audio, text]\nexamples: ['ü: \"x\"']\nedges: {feeds: [a]}\n", KINDS).require()
    text = dump_yaml(spec)
    assert load_text(text, KINDS).require() == (spec,)
    assert list(yaml.safe_load(text))[:3] == ["name", "kind", "description"]
    assert issubclass(FakeKind.Params, BaseModel)


@pytest.mark.parametrize("number", ["1" + ":59" * 100_000, "0b" + "1" * 1000, "9" * 5000, "9" * 19, "0b_"])
def test_a_number_is_short_and_a_number(number: str) -> None:
    found = load_text(f"name: n\nkind: fake\ndescription: d\ncontext_window: {number}\n", KINDS)
    assert not found.specs and len(found.problems) == 1
