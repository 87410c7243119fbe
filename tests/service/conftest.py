"""The real service, started once for all tests of this folder."""

from __future__ import annotations

import socket
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from openai import OpenAI
from otlp import OtlpReceiver
from recordings import spoken
from scripted_upstream import ScriptedUpstream
from service_process import ServiceProcess

EXAMPLES = Path(__file__).parents[2] / "examples"
STANDING = ExitStack()
"""What ends the services that stand."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark what lives here, and give it the time that real processes take."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.service)
            # One process for the tests of one service: the others leave it alone.
            item.add_marker(pytest.mark.xdist_group("service" if "service" in item.fixturenames else "light"))
            item.add_marker(pytest.mark.timeout(400))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """End the services after the last test of this folder: what they do while nobody asks slows all others down."""
    try:
        if nextitem is None or nextitem.get_closest_marker("service") is None:
            STANDING.close()
    finally:
        result = yield
    return result


@dataclass(frozen=True)
class Running:
    """The service, and what stands around it."""

    process: ServiceProcess
    upstream: ScriptedUpstream
    otlp: OtlpReceiver
    http: httpx.Client
    openai: OpenAI
    """The official client; it does not retry, so that nothing is hidden."""

    @property
    def url(self) -> str:
        return self.process.url


def remote_node(name: str, upstream: ScriptedUpstream, **fields: object) -> dict[str, object]:
    """Declare a node of kind `openai` on the scripted upstream."""
    return {
        "name": name,
        "kind": "openai",
        "description": f"Chess, as {name} plays it: openings, endgames, problems and famous games.",
        "endpoint": f"{upstream.url}/v1",
        "model": "scripted",
    } | fields


def weather_node(upstream: ScriptedUpstream) -> dict[str, object]:
    """Declare a tool on the scripted upstream."""
    return {
        "name": "weather",
        "kind": "http",
        "description": "The temperature in a city right now.",
        "produces": ["json"],
        "endpoint": upstream.url,
        "arguments": {"city": {"type": "string", "description": "Name of the city"}},
        "params": {"path": "/weather/{city}"},
        "examples": ["How warm is it in Oslo?", "What is the temperature in Madrid right now?"],
    }


def write_nodes(folder: Path, *nodes: dict[str, object]) -> Path:
    """Write declarations into a folder, a file for each."""
    folder.mkdir(parents=True, exist_ok=True)
    for node in nodes:
        (folder / f"{node['name']}.yaml").write_text(yaml.safe_dump(node))
    return folder


@pytest.fixture(scope="session")
def upstream() -> Iterator[ScriptedUpstream]:
    """The scripted upstream."""
    server = ScriptedUpstream()
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Running:
    """The service with the example experts, two nodes on the scripted upstream, and a collector for its spans."""
    folder = tmp_path_factory.mktemp("service")
    examples = ["Which opening answers the king's pawn?", "Mate in two: find the move.", "How does a rook move?"]
    chess = remote_node("chess", upstream, examples=examples)
    fragile = remote_node(
        "fragile", upstream, description="Checkers; what breaks, breaks here.", limits={"attempts": 1}
    )
    nodes = write_nodes(folder / "nodes", chess, fragile, weather_node(upstream))
    receiver = OtlpReceiver()
    process = ServiceProcess(
        folder,
        environment={"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint},
        nodes=[EXAMPLES / "nodes", nodes],
        store=f"sqlite:///{folder}/state.db",
        allow_private=True,
    )
    with ExitStack() as stack:
        stack.callback(receiver.close)
        _stand(process, stack)
        http = stack.enter_context(httpx.Client(base_url=process.url, timeout=120, trust_env=False))
        client = OpenAI(base_url=f"{process.url}/v1", api_key="unused", max_retries=0, timeout=120)
        stack.enter_context(client)
        STANDING.callback(stack.pop_all().close)
    return Running(process, upstream, receiver, http, client)


@pytest.fixture(scope="session")
def light(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream, redis_url: str) -> ServiceProcess:
    """A second service, on Redis and with a key, whose one node loads no model and takes whatever comes."""
    folder = tmp_path_factory.mktemp("light")
    nodes = write_nodes(folder / "nodes", remote_node("shared", upstream, default=True), weather_node(upstream))
    store = redis_url.rsplit("/", 1)[0] + "/5"
    key = {"MODELYARD_API_KEY": "the-operators-of-the-light-service"}
    process = ServiceProcess(folder, environment=key, nodes=nodes, store=store, strategy="keyword", allow_private=True)
    with ExitStack() as stack:
        _stand(process, stack)
        STANDING.callback(stack.pop_all().close)
    return process


def _stand(process: ServiceProcess, stack: ExitStack) -> None:
    """Start a service; the stack ends it, and holds that it ends cleanly if it was ever ready."""
    stack.callback(process.kill)
    process.start()
    process.await_ready()
    stack.callback(ends_cleanly, process)


def ends_cleanly(process: ServiceProcess) -> None:
    """Stop a service, and hold that nothing of it is left: no process, no listener, no noise."""
    assert process.stop() == 0, process.output
    assert list(process.processes()) == []
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", process.port))
    assert process.events[-1]["kind"] == "stopped", "every line of standard output is an event of ours"
    assert (process.folder / "stderr").read_text() == ""


@pytest.fixture(scope="session")
def threat() -> bytes:
    """A spoken recording with something for a lawyer in it."""
    return spoken("My landlord keeps the deposit. I want to go to court.")
