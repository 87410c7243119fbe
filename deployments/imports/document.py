"""Reads an OpenAPI document: a file or an address, JSON or YAML, of a bounded size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import yaml

from graph.errors import InvalidRequest
from graph.plain_yaml import PlainLoader

MAX_BYTES: Final = 64 * 2**20
_FETCH_S: Final = 30.0


def read_document(source: str) -> Mapping[str, Any]:
    """Return the OpenAPI 3 document of a file or an address.

    Raises `InvalidRequest` where it cannot be read, or is something else.
    """
    data = _fetch(source) if source.startswith(("http://", "https://")) else _read(Path(source))
    return check_document(parse(data, source), source)


def parse(data: bytes, source: str) -> Any:
    """Return what JSON or YAML says."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if data.lstrip()[:1] in (b"{", b"["):
            raise InvalidRequest(f"{source}: is not JSON: {error}") from None
    try:
        return yaml.load(data, Loader=PlainLoader)  # noqa: S506  # a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise InvalidRequest(f"{source}: is not YAML{line}: {getattr(error, 'problem', None) or error}") from None


def check_document(document: Any, source: str) -> Mapping[str, Any]:
    """Return the document if it is OpenAPI 3; say what it is otherwise."""
    if not isinstance(document, Mapping):
        raise InvalidRequest(f"{source}: is a {type(document).__name__}; an OpenAPI document is a mapping")
    if "swagger" in document:
        raise InvalidRequest(f"{source}: is Swagger {document['swagger']}; convert it to OpenAPI 3 first")
    version = str(document.get("openapi", ""))
    if not version.startswith("3."):
        found = f"openapi: {version}" if version else "no key 'openapi'"
        raise InvalidRequest(f"{source}: has {found}; OpenAPI 3.0 and 3.1 documents are read", param="openapi")
    if not isinstance(document.get("paths"), Mapping):
        raise InvalidRequest(f"{source}: has no mapping 'paths', so no operations", param="paths")
    return document


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidRequest(f"{path}: has {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path}: cannot be read: {error.strerror}") from None


def _fetch(url: str) -> bytes:
    pieces, size = [], 0
    try:
        with httpx.stream("GET", url, timeout=_FETCH_S, follow_redirects=True) as answer:
            if not answer.is_success:
                raise InvalidRequest(f"{url}: answered {answer.status_code} {answer.reason_phrase}")
            for piece in answer.iter_bytes():
                size += len(piece)
                if size > MAX_BYTES:
                    raise InvalidRequest(f"{url}: is larger than {MAX_BYTES} bytes")
                pieces.append(piece)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise InvalidRequest(f"{url}: cannot be fetched: {error or type(error).__name__}") from None
    return b"".join(pieces)
