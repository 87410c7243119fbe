"""The OpenAPI document against the service that it describes, for whoever has a key and for whoever has none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest


@pytest.mark.parametrize(("with_key", "seconds"), [(True, 20), (False, 5)])
def test_no_request_that_the_document_allows_breaks_the_service(light, tmp_path, with_key, seconds):
    """On the service whose nodes load no model: a model would answer nonsense at length."""
    document = tmp_path / "openapi.json"
    document.write_bytes(httpx.get(f"{light.url}/openapi.json", headers=light.headers).raise_for_status().content)
    schemathesis = Path(sys.executable).with_name("schemathesis")
    command = [
        *(str(schemathesis), "run", str(document), "--url", light.url),
        *(f"--header={name}: {value}" for name, value in light.headers.items() if with_key),
        *("--checks", "not_a_server_error,content_type_conformance"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "5", "--seed", "1"),
        *("--request-timeout", "30", "--generation-database", "none", "--no-color", "--continue-on-failure"),
        *("--max-time", str(seconds), "--no-shrink", "--suppress-health-check", "all"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert httpx.get(f"{light.url}/readyz").status_code == 200
