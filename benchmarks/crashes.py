"""Kills processes at random moments while runs are in progress, and accounts for every run that was accepted.

A gateway replica, the process of a node, the store's, or the whole service is killed with SIGKILL, again and again, at
moments that a seed gives. Clients start runs all the time, with an Idempotency-Key, and insist until they are accepted.
At the end each accepted run must be ok, partial or failed; no task that had ended well may have been run again; a task
of a node that is not idempotent may have been asked for once at most. `python -m benchmarks.crashes --seconds 300`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks import crash_kind
from benchmarks.crash_account import Account, account, settled
from benchmarks.crash_cluster import HOST, ClusterService, build_bridge
from benchmarks.crash_gateways import GatewayService
from benchmarks.crash_runs import Clients, node_specs
from benchmarks.crash_service import CrashService, CrashStore
from benchmarks.crash_upstream import CrashUpstream

VICTIMS = {"gateway": 4, "hosted": 4, "store": 3, "service": 1}
"""What is killed, and how often beside the others."""
WITHOUT_RAY = {"gateway": 4, "store": 3, "service": 1}
ON_A_CLUSTER = {"gateway": 2, "hosted": 2, "worker": 3}
"""The same, on a Ray cluster, with a worker node and all that runs there."""
PATIENCE_S = 700.0
"""How long the last run may take to end: as long as any may (`run_total_s`), and the time to be taken over."""


@dataclass
class Killer:
    """Kills what the dice say, when they say."""

    service: CrashService
    store: CrashStore
    dice: random.Random
    victims: dict[str, int]
    kills: list[tuple[float, str]] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)
    """Seconds from each start of the whole service until it was ready."""

    def work(self, seconds: float) -> None:
        """Kill until the time is over; the last victim is let come back."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            time.sleep(self.dice.uniform(2, 12))
            victim = self.dice.choices(list(self.victims), list(self.victims.values()))[0]
            self.kill(victim)

    def kill(self, victim: str) -> None:
        """Kill one thing; what nobody else brings back is started again after a while."""
        self.kills.append((time.time(), victim))
        print(f"{time.strftime('%H:%M:%S')} kill {victim}", flush=True)
        if victim == "service":
            self.service.kill_all()
            time.sleep(self.dice.uniform(0, 5))
            self.service.start()
            self.ready_s.append(self.service.await_ready())
        elif victim == "store":
            self.store.kill()
            time.sleep(self.dice.uniform(0.1, 4))
            self.store.start()
        elif victim == "worker" and isinstance(self.service, ClusterService):
            node = self.dice.choice(self.service.workers)
            node.kill_all()
            time.sleep(self.dice.uniform(5, 20))
            node.start()
            node.await_started()
        elif victim == "head" and isinstance(self.service, ClusterService):
            self.service.kill_head()
            time.sleep(self.dice.uniform(1, 5))
            self.service.head.start()
            time.sleep(5)
            self.service.start()
            self.ready_s.append(self.service.await_ready())
        else:
            self.service.kill_replica(victim, self.dice)
        self.kills.append((time.time(), f"{victim} is back"))


async def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Start everything, kill, and return the account."""
    host = HOST if options.cluster else "127.0.0.1"
    if options.cluster:
        build_bridge()
    upstream, store = CrashUpstream(host), CrashStore(options.store, folder, host)
    upstream.start()
    store.start()
    nodes = folder / "nodes.yaml"
    nodes.write_text(yaml.safe_dump_all(node_specs(upstream, "http" if options.gateway_only else "hosted_http")))
    crash_kind.install(folder / "kind")
    kind = ClusterService if options.cluster else GatewayService if options.gateway_only else CrashService
    service = kind(folder, nodes, store.url, options.gateways)
    on_a_cluster = ON_A_CLUSTER | ({"head": 3} if options.head else {})
    chances = on_a_cluster if options.cluster else WITHOUT_RAY if options.gateway_only else VICTIMS
    victims = {name: weight for name, weight in chances.items() if name != "store" or store.is_server}
    killer = Killer(service, store, random.Random(options.seed), victims)  # noqa: S311
    try:
        if isinstance(service, ClusterService):
            service.start_cluster()
        service.start()
        killer.ready_s.append(service.await_ready())
        places = service.places() if isinstance(service, ClusterService) else {}
        over = asyncio.Event()
        clients = Clients(service.urls, options.seed, options.clients)
        working = asyncio.create_task(clients.work(over.is_set))
        await asyncio.to_thread(killer.work, options.seconds)
        over.set()
        await working
        runs = list(clients.accepted.values())
        print(f"{time.strftime('%H:%M:%S')} {len(runs)} runs accepted; waiting for their ends", flush=True)
        began = time.monotonic()
        shown = await settled(service.urls[0], runs, PATIENCE_S)
        made = await account(runs, shown, upstream, store.url, [at for at, _ in killer.kills])
    finally:
        service.kill_all()
        store.kill()
    made.wrong += [f"refused: {answer}" for answer in clients.refused]
    return _report(options, killer, clients, made, time.monotonic() - began) | ({"places": places} if places else {})


def _report(
    options: argparse.Namespace, killer: Killer, clients: Clients, made: Account, last_s: float
) -> dict[str, Any]:
    victims = Counter(victim for _, victim in killer.kills if not victim.endswith("is back"))
    return {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load": list(os.getloadavg()),
        "seed": options.seed,
        "seconds": options.seconds,
        "store": options.store,
        "cluster": options.cluster,
        "gateway_only": options.gateway_only,
        "gateways": options.gateways,
        "kills": dict(victims),
        "ready_s": [round(each, 1) for each in killer.ready_s],
        "accepted": len(clients.accepted),
        "requests_until_accepted": sum(run.tries for run in clients.accepted.values()),
        "last_run_ended_after_s": round(last_s, 1),
    } | made.to_json()


def main() -> None:
    """Run, print, save; fail if anything was not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=("sqlite", "valkey"), default="valkey")
    parser.add_argument("--cluster", action="store_true", help="Three Ray nodes in network namespaces; needs root.")
    parser.add_argument("--head", action="store_true", help="With --cluster: kill the head as well.")
    parser.add_argument("--gateway-only", action="store_true", help="Gateway processes without Ray: more deaths.")
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--work", type=Path, help="Folder for logs and state, which is kept.")
    parser.add_argument("--out", type=Path, help="File for the figures, as JSON.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = asyncio.run(run(options, folder.resolve()))
    text = json.dumps(report, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")
    raise SystemExit(1 if report["wrong"] else 0)


if __name__ == "__main__":
    main()
