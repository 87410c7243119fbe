"""What the script in front of HAProxy changes in the configuration that Serve wrote."""

from __future__ import annotations

import json
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

WRITTEN = """defaults
    option abortonclose
    option splice-request
    option splice-response
    errorfile 502 /ray/500.http
    errorfile 503 /ray/500.http
    errorfile 504 /ray/500.http
frontend prometheus
    bind :9101
frontend http
    bind 127.0.0.1:8000
listen stats
  bind *:8404
"""


def rewritten(tmp_path: Path) -> str:
    config = tmp_path / "haproxy.cfg"
    config.write_text(WRITTEN)
    ports = {"RAY_SERVE_HAPROXY_METRICS_PORT": "9101", "RAY_SERVE_HAPROXY_STATS_PORT": "8404"}
    environment = {"PATH": "/usr/bin:/bin", "MODELYARD_HAPROXY": "/bin/echo", **ports}
    script = str(files("deployments") / "haproxy.sh")
    done = subprocess.run(
        ["/bin/sh", script, "-db", "-f", str(config)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"-db -f {config}\n"
    return config.read_text()


def test_only_what_has_no_setting_is_changed(tmp_path: Path) -> None:
    ours = ["timeout queue 1s", "timeout server 3600s", "timeout http-request 10s"]
    ours += ["option http-buffer-request", "option http-ignore-probes", f"errorfile 408 {tmp_path}/408.http"]
    expected = WRITTEN.replace("    option splice-request\n", "")
    expected = expected.replace("defaults\n", "\n    ".join(["defaults", *ours]) + "\n")
    expected = expected.replace(" :9101", " 127.0.0.1:9101").replace("*:8404", "127.0.0.1:8404")
    for status in ("502", "503"):
        expected = expected.replace(f"{status} /ray/500.http", f"{status} {tmp_path}/{status}.http")
    assert rewritten(tmp_path) == expected


@pytest.mark.parametrize(
    ("status", "code", "kind", "retry"),
    [("408", "deadline_exceeded", "timeout_error", None),
     ("502", "node_failed", "upstream_error", None), ("503", "overloaded", "overloaded_error", "1")],
)  # fmt: skip
def test_errors_of_haproxy_look_like_all_others(
    tmp_path: Path, status: str, code: str, kind: str, retry: str | None
) -> None:
    rewritten(tmp_path)
    head, _, body = (tmp_path / f"{status}.http").read_bytes().partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    error = json.loads(body)["error"]
    assert lines[0].startswith(f"HTTP/1.1 {status} ") and (error["code"], error["type"]) == (code, kind)
    assert (int(headers["content-length"]), headers.get("retry-after")) == (len(body), retry)
