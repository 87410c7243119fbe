"""Where a node's model lies."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deployments.models import model_problem, resolve_model
from graph.errors import InvalidSpec


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package that must never be imported."""
    folder = tmp_path / "site" / "weights_for_test"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "model.bin").write_bytes(b"x")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder.name


def test_package_reference_is_found_without_importing(package: str) -> None:
    path = resolve_model(f"pkg://{package}/model.bin")
    assert path.read_bytes() == b"x"
    assert resolve_model(f"pkg://{package}").is_dir()
    assert package not in sys.modules


def test_file_reference(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF")
    assert resolve_model(str(file)) == file
    assert model_problem(str(file)) is None


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        (None, "required"),
        ("", "required"),
        ("pkg://no_such_package_here/x", "not installed"),
        ("pkg://", "malformed"),
        ("pkg://os.path/x", "malformed"),
        ("pkg://deployments/../pyproject.toml", "malformed"),
        ("pkg://deployments/absent.bin", "has no 'absent.bin'"),
        ("hf://only-name", "malformed"),
        ("hf://org/name/../../etc", "malformed"),
        ("s3://bucket/key", "unknown scheme"),
        ("/no/such/file.gguf", "does not exist"),
        ("a" * 5000, "does not exist"),
        ("~no-such-user/m.gguf", "does not exist"),
    ],
)
def test_problems_say_what_would_be_right(reference: str | None, says: str) -> None:
    problem = model_problem(reference)
    assert problem is not None
    assert says in problem
    with pytest.raises(InvalidSpec) as caught:
        resolve_model(reference)
    assert caught.value.problems[0].key == "model"


@pytest.mark.parametrize("reference", ["hf://org/name", "hf://org/name/file.gguf", "hf://org/name/sub/file.gguf"])
def test_hub_references_are_only_checked_for_form(reference: str) -> None:
    assert model_problem(reference) is None


@pytest.mark.parametrize("reference", ["hf://modelyard/absent-here", "hf://modelyard/absent-here/m.gguf"])
def test_offline_hub_fails_readably(reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InvalidSpec, match="not in the local cache") as caught:
        resolve_model(reference)
    assert caught.value.problems[0].key == "model"
