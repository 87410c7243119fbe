"""`make demo`: starts the service with the example experts, sends real requests, and shows what happened.

Everything here is what a user would do: the official `openai` client for requests, `modelyard` for plan and trace.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
from openai import OpenAI
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

HERE = Path(__file__).parent
RECORDING = HERE / "requests" / "deposit.wav"
QUESTIONS = (
    "My landlord kept my deposit and will not say why. What can I do?",
    "Write a Python function that checks whether a number is prime.",
    "I have had a fever and a sore throat for two days. What helps?",
    "Suggest three things to see in Rome.",
)
COMPOUND = (
    "Transcribe this recording, explain the legal risk in it, and write a Python function that validates an "
    "email address"
)
START_S = 300.0


def main() -> int:
    """Run the demo; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    console = Console()
    modelyard = str(Path(sys.executable).with_name("modelyard"))
    url = f"http://127.0.0.1:{port}"
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{folder}/state.db"
        command = [modelyard, "up", "--nodes", str(HERE / "nodes"), "--port", str(port), "--store", store]
        console.rule(f"$ modelyard {' '.join(command[1:4])} --port {port}")
        service = subprocess.Popen(command)  # noqa: S603  # our own program
        try:
            _await(service, url)
            console.print(f"ready after {time.monotonic() - began:.0f} s\n")
            _ask_experts(console, url)
            _transcribe(console, url)
            _run_compound(console, modelyard, url)
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(60)
    console.print(Panel("make up          the same service, left running\nmake test        every test", title="next"))
    return 0


def _await(service: subprocess.Popen[bytes], url: str) -> None:
    limit = time.monotonic() + START_S
    while time.monotonic() < limit:
        if service.poll() is not None:
            raise SystemExit(f"the service ended with exit code {service.returncode}")
        try:
            answer = httpx.get(f"{url}/readyz", timeout=5)
            states = answer.json().get("nodes", {}).values() if answer.is_success else ()
            if states and "loading" not in states:
                return
        except (httpx.HTTPError, ValueError):
            pass  # not listening yet
        time.sleep(0.5)
    raise SystemExit(f"the service was not ready after {START_S:g} s")


def _ask_experts(console: Console, url: str) -> None:
    console.rule('requests with model="auto", through the openai client')
    client = OpenAI(base_url=f"{url}/v1", api_key="unused")
    table = Table("request", "expert", "probability", "time", "answer")
    for question in QUESTIONS:
        began = time.monotonic()
        raw = client.chat.completions.with_raw_response.create(
            model="auto", messages=[{"role": "user", "content": question}], max_completion_tokens=48, temperature=0
        )
        answer = " ".join((raw.parse().choices[0].message.content or "").split())
        node, probability = raw.headers["x-modelyard-node"], raw.headers["x-modelyard-probability"]
        table.add_row(question, node, probability, f"{time.monotonic() - began:.1f} s", answer[:110] + " …")
    console.print(table)
    console.print("[dim]The example experts are one model of 135 million parameters with different instructions: "
                  "what to look at is the way, not the wisdom.[/]\n")  # fmt: skip


def _transcribe(console: Console, url: str) -> None:
    console.rule(f"a spoken recording: {RECORDING.name}")
    client = OpenAI(base_url=f"{url}/v1", api_key="unused")
    with RECORDING.open("rb") as file:
        console.print(client.audio.transcriptions.create(model="auto", file=file).text, "\n")


def _run_compound(console: Console, modelyard: str, url: str) -> None:
    _show(console, [modelyard, "plan", "--audio", str(RECORDING), COMPOUND], url)
    _show(console, [modelyard, "run", "--audio", str(RECORDING), COMPOUND], url)
    run = httpx.get(f"{url}/v1/runs", params={"limit": 1}).json()["data"][0]
    _show(console, [modelyard, "trace", run["trace_id"]], url)


def _show(console: Console, command: Sequence[str], url: str) -> None:
    words = [f'"{word}"' if " " in word else word for word in command[1:]]
    console.rule(f"$ modelyard {' '.join(words)[:100]}")
    sys.stdout.flush()
    subprocess.run(command, env=os.environ | {"MODELYARD_URL": url}, check=False)  # noqa: S603  # our own program
    console.print()


if __name__ == "__main__":
    sys.exit(main())
