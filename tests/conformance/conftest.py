"""Markers of the conformance suites."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shared: only stores that more than one process can use")
