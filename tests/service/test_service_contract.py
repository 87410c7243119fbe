"""The OpenAPI document against the service that it describes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CONFIG = """
[generation]
max-examples = 8
"""


def test_no_request_that_the_document_allows_breaks_the_service(service, tmp_path):
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{service.url}/openapi.json",
            "--checks=not_a_server_error,content_type_conformance",
            "--phases=examples,coverage,fuzzing",
            "--max-examples=6",
            "--seed=1",
            "--request-timeout=60",
            "--generation-database=none",
            "--no-color",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
