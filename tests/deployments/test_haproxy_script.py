"""What the script in front of HAProxy changes in the configuration that Serve wrote."""

from __future__ import annotations

import subprocess
from importlib.resources import files
from pathlib import Path

WRITTEN = """defaults
    option abortonclose
    option splice-request
    option splice-response
frontend prometheus
    bind :9101
frontend http
    bind 127.0.0.1:8000
listen stats
  bind *:8404
"""


def test_pages_become_local_and_requests_are_not_spliced(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(WRITTEN)
    ports = {"RAY_SERVE_HAPROXY_METRICS_PORT": "9101", "RAY_SERVE_HAPROXY_STATS_PORT": "8404"}
    environment = {"PATH": "/usr/bin:/bin", "MODELYARD_HAPROXY": "/bin/echo", **ports}
    script = str(files("deployments") / "haproxy.sh")
    done = subprocess.run(
        ["/bin/sh", script, "-db", "-f", str(config)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"-db -f {config}\n"
    expected = WRITTEN.replace("    option splice-request\n", "")
    expected = expected.replace(" :9101", " 127.0.0.1:9101").replace("*:8404", "127.0.0.1:8404")
    assert config.read_text() == expected
