"""Where a node's model lies: `pkg://package/path`, `hf://org/name[/file]`, or a file path."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

from graph.errors import InvalidSpec, Problem

FORMS = "pkg://package/path, hf://org/name[/file] or a file path"
_PACKAGE = re.compile(r"pkg://([A-Za-z_]\w*)(?:/(.*))?")
_HUB = re.compile(r"hf://([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:/(.+))?")


def model_problem(reference: str | None) -> str | None:
    """Say what is wrong with a reference, or None. Cheap: looks at the disk, never at a network."""
    if not reference:
        return f"is required: {FORMS}"
    if reference.startswith("pkg://"):
        return _package_problem(reference)
    if reference.startswith("hf://"):
        match = _HUB.fullmatch(reference)
        if match is None or ".." in reference.split("/"):
            return (
                f"{reference!r} is malformed; write hf://org/name for a repository or hf://org/name/file for one file"
            )
        return None
    if "://" in reference:
        return f"{reference!r} has an unknown scheme; write {FORMS}"
    # os.path takes names that are too long or name no user for absent; Path raises.
    return None if os.path.exists(os.path.expanduser(reference)) else f"{reference!r} does not exist; write {FORMS}"


def resolve_model(reference: str | None) -> Path:
    """Return the file or folder that a reference names, fetching it from the hub if it is an `hf://` one.

    Raises `InvalidSpec` with the key `model` if there is none. A package is found without importing it.
    """
    problem = model_problem(reference)
    if problem is not None or reference is None:
        raise _invalid(problem or "is required")
    if reference.startswith("hf://"):
        return _download(reference)
    if reference.startswith("pkg://"):
        return _package_path(reference)
    return Path(reference).expanduser().resolve()


def _package_problem(reference: str) -> str | None:
    match = _PACKAGE.fullmatch(reference)
    if match is None or ".." in reference.split("/"):
        return f"{reference!r} is malformed; write pkg://package/path with the package's import name"
    if _package_root(match[1]) is None:
        return f"{reference!r} names package {match[1]!r}, which is not installed; pip install it where the node runs"
    path = _package_path(reference)
    return None if os.path.exists(path) else f"{reference!r} does not exist: package {match[1]!r} has no {match[2]!r}"


def _package_root(package: str) -> Path | None:
    # A top-level name is looked up on the path only: nothing of the package is executed.
    spec = find_spec(package)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    return Path(locations[0]) if locations else None


def _package_path(reference: str) -> Path:
    package, _, rest = reference.removeprefix("pkg://").partition("/")
    root = _package_root(package)
    if root is None:
        raise _invalid(f"{reference!r}: package {package!r} is not installed")
    return root / rest


def _download(reference: str) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    organisation, name, *rest = reference.removeprefix("hf://").split("/", 2)
    repository = f"{organisation}/{name}"
    try:
        if rest:
            return Path(hf_hub_download(repository, rest[0]))
        return Path(snapshot_download(repository))
    except LocalEntryNotFoundError as error:
        raise _invalid(
            f"{reference!r} is not in the local cache and the hub cannot be reached; "
            "allow network access (unset HF_HUB_OFFLINE), fetch it beforehand, or name a file or pkg:// path"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise _invalid(f"{reference!r} cannot be fetched from the hub: {reason}") from error


def _invalid(message: str) -> InvalidSpec:
    return InvalidSpec([Problem("node", "model", message)])
