"""A Ray cluster on one machine: a head and two workers, each in namespaces of its own, that can be killed.

Needs root and `ip` (iproute2). Each node has an address of its own on a bridge, processes that see only each other, and
a temporary folder; they share the kernel, the disk and the processors. Ray's own state lies in the store's server (GCS
fault tolerance), so that a killed head can be started again.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.crash_service import KEY, START_S, CrashService, Marked

NET = "10.77.0"
HOST = f"{NET}.254"
"""This machine, as the nodes see it."""
BRIDGE = "mdybr"
GCS_PORT = 6379
SERVE_PORT = 8000
STARTED = "Ray runtime started"
AGENT_PORTS = ("metrics-export", "dashboard-agent-grpc", "dashboard-agent-listen", "runtime-env-agent")


def _ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True)


def build_bridge() -> None:
    """Make the bridge, instead of one that was left behind."""
    _ip("link", "del", BRIDGE, check=False)
    _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("addr", "add", f"{HOST}/24", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")


class RayNode(Marked):
    """One Ray node: a namespace, an address, and what `ray start` starts there."""

    def __init__(self, folder: Path, number: int, *, cpus: float, environment: dict[str, str]) -> None:
        super().__init__(folder)
        self.name = f"mdy{number}"
        self.address = f"{NET}.{number}"
        self._is_head = number == 1
        self._cpus = cpus
        self._environment = environment
        self._first = 0
        self._log = folder / f"{self.name}.log"
        self._ray: subprocess.Popen[bytes] | None = None

    def connect(self) -> None:
        """Make the namespace, and its cable to the bridge."""
        _ip("netns", "del", self.name, check=False)
        _ip("link", "del", f"{self.name}h", check=False)
        _ip("netns", "add", self.name)
        _ip("link", "add", f"{self.name}h", "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("link", "set", f"{self.name}h", "master", BRIDGE, "up")
        _ip("-n", self.name, "link", "set", "lo", "up")
        _ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        _ip("-n", self.name, "link", "set", "eth0", "up")

    def boot(self) -> None:
        """Start the first process of this node; when it is killed, so is every other one here."""
        first = ["unshare", "--pid", "--fork", "--mount-proc", "bash", "-c", "while :; do sleep 1; done"]
        boot = self.spawn(self.name, ["ip", "netns", "exec", self.name, *first], {})
        while not (children := psutil.Process(boot.pid).children()):
            time.sleep(0.05)
        self._first = children[0].pid

    def inside(self, command: list[str]) -> list[str]:
        """Return a command that runs on this node."""
        return ["nsenter", "--target", str(self._first), "--pid", "--net", "--mount", "--", *command]

    def start(self) -> None:
        """Start Ray here; the head makes the cluster, the others join it."""
        self._log.unlink(missing_ok=True)
        self.boot()
        ray = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
        ray += ["--node-ip-address", self.address, "--num-cpus", f"{self._cpus:g}", "--temp-dir", f"/tmp/{self.name}"]  # noqa: S108
        ray += ["--object-store-memory", "100000000", "--include-log-monitor", "false"]
        # Given, so that fewer are waited for: what a busy machine starts slowly is the end of its node.
        ray += [word for number, name in enumerate(AGENT_PORTS, 20_001) for word in (f"--{name}-port", str(number))]
        head = ["--head", "--port", str(GCS_PORT), "--include-dashboard", "false"]
        where = head if self._is_head else ["--address", f"{NET}.1:{GCS_PORT}"]
        self._ray = self.spawn(self.name, self.inside([*ray, *where]), self._environment)

    def await_started(self) -> None:
        """Wait until Ray runs here; a busy machine may need more than one start."""
        limit = time.monotonic() + START_S
        while STARTED not in self._log.read_text(errors="replace") and time.monotonic() < limit:
            self.mend()
            time.sleep(0.5)

    def mend(self) -> None:
        """Start Ray again if it could not be started."""
        if self._ray is not None and self._ray.poll() is not None:
            self.kill_all()
            self.start()

    def close(self) -> None:
        """End everything of it."""
        self.kill_all()
        _ip("netns", "del", self.name, check=False)


class ClusterService(CrashService):
    """`modelyard up --address` on a cluster of a head, which has no processors to give, and two workers."""

    def __init__(self, folder: Path, nodes: Path, store: str, replicas: int) -> None:
        super().__init__(folder, nodes, store, replicas)
        ray = {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_gcs_rpc_server_reconnect_timeout_s": "300"}
        ray |= {"RAY_raylet_start_wait_time_s": "45"}  # a raylet that lost its patience does not come any more
        self._environment |= ray | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": KEY}
        gcs = {"RAY_REDIS_ADDRESS": store.split("/")[2], "RAY_external_storage_namespace": "modelyard-crashes"}
        self.head = RayNode(folder, 1, cpus=0, environment=self._environment | gcs)
        self.workers = [RayNode(folder, number, cpus=3, environment=self._environment) for number in (2, 3)]
        self.urls = [f"http://{self.head.address}:{SERVE_PORT}"]
        self._where = ["--port", str(SERVE_PORT), "--host", "0.0.0.0"]  # noqa: S104
        self._where += ["--address", f"{self.head.address}:{GCS_PORT}"]

    @property
    def ray_nodes(self) -> list[RayNode]:
        """The head and the workers."""
        return [self.head, *self.workers]

    def start_cluster(self) -> None:
        """Start the Ray nodes, on a bridge that is there."""
        for node in self.ray_nodes:
            node.connect()
            node.start()
            node.await_started()  # one after the other: each takes its time

    def start(self) -> None:
        """Start the service from the head."""
        self._up = self.spawn("service", self.head.inside([*self._command, *self._where]), self._environment)

    def mend(self) -> None:
        """Start what has ended by itself."""
        for node in self.ray_nodes:
            node.mend()
        super().mend()

    def kill_head(self) -> None:
        """Kill the head's Ray and what runs beside it: the command that started the service."""
        self.head.kill_all()
        super().kill_all()

    def replicas(self) -> Iterator[tuple[psutil.Process, str]]:
        """Yield the processes of Serve's replicas on all nodes."""
        for node in self.ray_nodes:
            yield from node.replicas()

    def places(self) -> dict[str, int]:
        """Return how many replicas of each deployment run on each Ray node."""
        return dict(Counter(f"{name} on {node.name}" for node in self.ray_nodes for _, name in node.replicas()))

    def kill_all(self) -> None:
        """End the service, the cluster and its network."""
        super().kill_all()
        for node in self.ray_nodes:
            node.close()
        _ip("link", "del", BRIDGE, check=False)
