"""Plays the sixteen faults of an upstream to Modelyard, and to LiteLLM's proxy where it is installed.

Each cell asks once, in one way, while the upstream plays one fault, and is judged from both sides: what the caller got,
and which attempts the upstream saw. The services run as processes of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import yaml

from benchmarks import services
from benchmarks.fault_cells import BACKUP, Got, ask, run, served, verdict
from benchmarks.fault_upstream import FAULTS, FaultUpstream, fault_upstream

WORDS: Final = dict(
    zip(
        FAULTS,
        "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa".split(),
        strict=True,
    )
)
"""What each faulty node is about, so that a request can be routed to it."""
RECOVERS_S: Final = 30.0
Way = Callable[[httpx.AsyncClient, str], Awaitable[Got]]


@dataclass(frozen=True)
class Cell:
    """How one fault went in one way."""

    wrong: str | None
    primary: int
    """Attempts at the faulty node."""
    backup: int

    def __str__(self) -> str:
        return f"{'FAILED' if self.wrong else 'passed'} ({self.primary}+{self.backup})"


async def _task(http: httpx.AsyncClient, fault: str) -> Got:
    return (await run(http, fault, _question(fault)))[0]


def _chat(model: str | None, *, stream: bool) -> Way:
    return lambda http, fault: ask(http, model or fault, _question(fault), stream=stream)


MODELYARD: Final[dict[str, Way]] = {
    "routed": _chat("auto", stream=False),
    "routed, streamed": _chat("auto", stream=True),
    "named": _chat(None, stream=False),
    "task of a plan": _task,
    "plan, streamed": _chat("plan", stream=True),
}
LITELLM: Final[dict[str, Way]] = {
    "named": _chat(None, stream=False),
    "named, streamed": _chat(None, stream=True),
}


def _question(fault: str) -> str:
    return f"Tell me about {WORDS[fault]}, please."


def modelyard(folder: Path, url: str, limit_s: float, gateway_only: bool) -> AbstractContextManager[services.Service]:
    """Start Modelyard with a node for each fault."""
    common = {"kind": "openai", "endpoint": url, "limits": {"connect_s": 2.0}}
    limits = {"connect_s": 2.0, "first_token_s": limit_s, "idle_s": limit_s}
    nodes = [
        common
        | {"name": fault, "model": fault, "context_window": 4096, "edges": {"fallback": [BACKUP]}, "limits": limits}
        | {"description": f"Everything about {word}.", "examples": [_question(fault), f"What is {word}?", word]}
        for fault, word in WORDS.items()
    ]
    nodes += [
        common | {"name": name, "model": name, "description": f"Nothing but {name}.", "context_window": 32768}
        for name in (BACKUP, "steady")
    ]
    given = folder / "faults"
    given.mkdir()
    (given / "nodes.yaml").write_text(yaml.safe_dump_all(nodes))
    port = services.free_port()
    store = f"sqlite:///{folder}/faults.db"
    if gateway_only:
        command = [sys.executable, "-m", "benchmarks.gateway_only", str(given / "nodes.yaml"), str(port), store]
    else:
        command = [sys.executable, "-m", "deployments.cli", "up", "--nodes", str(given), "--port", str(port)]
        command += ["--store", store, "--allow-private", "--json", "--strategy", "keyword"]
    return services.started("modelyard", command, port, f"http://127.0.0.1:{port}/readyz", folder)


def litellm(folder: Path, program: Path, url: str, limit_s: float) -> AbstractContextManager[services.Service]:
    """Start LiteLLM's proxy with a deployment for each fault, two retries, cooldowns, and a fallback."""
    deployments = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{name}", "api_base": url, "api_key": "none"}
            | {"timeout": limit_s, "stream_timeout": limit_s},
        }
        for name in (*FAULTS, BACKUP)
    ]
    fallbacks = [{fault: [BACKUP]} for fault in FAULTS]
    config = {
        "model_list": deployments,
        "router_settings": {"num_retries": 2, "allowed_fails": 3, "cooldown_time": 5}
        | {"fallbacks": fallbacks, "context_window_fallbacks": fallbacks},
    }
    path = folder / "litellm-faults.yaml"
    path.write_text(yaml.safe_dump(config))
    port = services.free_port()
    command = [str(program), "--config", str(path), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    environment = {"LITELLM_MASTER_KEY": services.LITELLM_KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    alive = f"http://127.0.0.1:{port}/health/liveliness"
    return services.started("litellm", command, port, alive, folder, environment | {"LITELLM_LOG": "ERROR"})


async def play(http: httpx.AsyncClient, upstream: FaultUpstream, fault: str, way: Way, down_s: float) -> Cell:
    """Play one fault to one way of asking."""
    upstream.attempts.clear()
    if fault == "f15":
        wrong = await _outage(http, upstream, way, down_s)
    else:
        wrong = verdict(fault, await _asked(http, fault, way), upstream)
    return Cell(wrong, len(upstream.asked(fault)), len(upstream.asked(BACKUP)))


async def _asked(http: httpx.AsyncClient, fault: str, way: Way) -> Got:
    try:
        return await way(http, fault)
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return Got(text=f"no answer: {type(error).__name__}: {error}")


async def _outage(http: httpx.AsyncClient, upstream: FaultUpstream, way: Way, down_s: float) -> str | None:
    """Ask every second while the upstream is down, and until it answers again.

    Every request must be served, and in the second half of the outage at most one in two may be tried at the dead node.
    """
    lost: list[str] = []

    async def serve() -> str:
        source = served("f15", await _asked(http, "f15", way))
        if source not in ("primary", "backup"):
            lost.append(source)
        await asyncio.sleep(1)
        return source

    async def serve_until(end: float) -> tuple[int, int]:
        """Return how many requests were made, and how many attempts at the dead node."""
        count, before = 0, len(upstream.asked("f15"))
        while time.monotonic() < end:
            await serve()
            count += 1
        return count, len(upstream.asked("f15")) - before

    upstream.down, began = True, time.monotonic()
    await serve_until(began + down_s / 2)
    count, attempts = await serve_until(began + down_s)
    upstream.down, up = False, time.monotonic()
    while await serve() != "primary":
        if time.monotonic() > up + RECOVERS_S:
            return f"not recovered {RECOVERS_S:g} s after the end"
    if lost:
        return f"{len(lost)} requests not served, such as {lost[0]}"
    return f"{attempts} attempts at the dead node for {count} requests" if attempts * 2 > count else None


async def matrix(
    service: services.Service, upstream: FaultUpstream, ways: dict[str, Way], faults: Iterable[str], down_s: float
) -> dict[tuple[str, str], Cell]:
    """Play every fault in every way, and print what went wrong."""
    cells = {}
    headers = {"authorization": f"Bearer {services.LITELLM_KEY}"} if service.name == "litellm" else {}
    url = f"http://127.0.0.1:{service.port}"
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120, trust_env=False) as http:
        for fault in faults:
            for name, way in ways.items():
                cell = cells[fault, name] = await play(http, upstream, fault, way, down_s)
                print(f"{service.name} {fault} {name}: {cell} {cell.wrong or ''}", flush=True)
    return cells


def report(name: str, ways: Iterable[str], cells: dict[tuple[str, str], Cell]) -> None:
    """Print a service's matrix as a table."""
    ways = list(ways)
    print(f"\n### {name}: {sum(not cell.wrong for cell in cells.values())} of {len(cells)} passed\n")
    print("| fault | " + " | ".join(ways) + " |")
    print("|---|" + "---|" * len(ways))
    for fault in dict.fromkeys(fault for fault, _ in cells):
        print(f"| {fault.upper()} {FAULTS[fault]} | " + " | ".join(str(cells[fault, way]) for way in ways) + " |")


async def measure(options: argparse.Namespace) -> int:
    """Play the faults to each service and print the tables; return how many cells of Modelyard failed."""
    faults = options.only or list(FAULTS)
    tables = []
    async with fault_upstream() as upstream:
        started: list[tuple[str, Callable[[Path], AbstractContextManager[services.Service]], dict[str, Way]]] = [
            (
                "Modelyard",
                lambda folder: modelyard(folder, upstream.url, options.limit_s, options.gateway_only),
                MODELYARD,
            )
        ]
        if not options.litellm:
            print("LiteLLM's proxy is not played to: `make litellm` installs it, or LITELLM_PROXY names its program")
        if program := options.litellm:
            started.append(("LiteLLM", lambda folder: litellm(folder, program, upstream.url, options.limit_s), LITELLM))
        for name, start, ways in started:
            with tempfile.TemporaryDirectory() as folder:
                context = start(Path(folder))
                service = await asyncio.to_thread(context.__enter__)
                try:
                    tables.append((name, ways, await matrix(service, upstream, ways, faults, options.down_s)))
                finally:
                    await asyncio.to_thread(context.__exit__, None, None, None)
    for name, ways, cells in tables:
        report(name, ways, cells)
    print("\nAttempts at the faulty node + at the fallback.")
    return sum(cell.wrong is not None for cell in tables[0][2].values())


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    program = os.environ.get("LITELLM_PROXY")
    parser.add_argument("--litellm", type=Path, default=Path(program) if program else None, help="LiteLLM's program")
    parser.add_argument("--down-s", type=float, default=60, help="how long F15 is down")
    parser.add_argument("--limit-s", type=float, default=2, help="first-token, idle and request limits of the gateways")
    parser.add_argument("--gateway-only", action="store_true", help="start the gateway's process alone, without Ray")
    parser.add_argument("--only", nargs="*", choices=list(FAULTS), help="faults to play")
    raise SystemExit(1 if asyncio.run(measure(parser.parse_args())) else 0)


if __name__ == "__main__":
    main()
