import logging
import os
import socket
import sys
from contextlib import redirect_stdout
from types import SimpleNamespace

import pytest

import deployments.ray_host
from deployments.logs import configure_logging
from deployments.ray_host import BLOCK, RayHost, RayRemarks, _free_block, port_owner
from deployments.settings import Settings
from graph.errors import ModelyardError


@pytest.fixture
def listener():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        found.listen()
        yield found


def test_a_taken_port_is_told_with_its_holder(listener):
    port = listener.getsockname()[1]
    told = port_owner("127.0.0.1", port)
    assert told is not None and f"127.0.0.1:{port} is taken by " in told and f"(process {os.getpid()})" in told


def test_a_free_port_has_no_owner(listener):
    port = listener.getsockname()[1]
    listener.close()
    assert port_owner("127.0.0.1", port) is None


@pytest.mark.parametrize(("given", "wanted"), [(None, None), (9464, 9465)])
def test_rays_own_metrics_are_beside_the_gateways(monkeypatch, given, wanted):
    asked = {}
    monkeypatch.setattr("ray.serve.start", lambda **_: None)
    RayHost(Settings(metrics_port=given))._connect(SimpleNamespace(init=lambda **options: asked.update(options)))
    assert asked["_metrics_export_port"] == wanted


def test_replica_ports_are_a_block_below_the_ephemeral_range():
    firsts = {_free_block() for _ in range(20)}
    assert all(20_000 <= first <= 32_000 - BLOCK and first % BLOCK == 0 for first in firsts)
    assert len(firsts) > 1


def test_what_ray_prints_goes_to_the_log(caplog, capsys):
    with caplog.at_level(logging.INFO, "modelyard.ray"), redirect_stdout(RayRemarks()):
        for piece in ("(raylet) something", " happened", "\n", "\n"):
            sys.stdout.write(piece)
    assert caplog.messages == ["(raylet) something happened"]
    assert capsys.readouterr().out == ""


def test_the_log_level_is_the_settings():
    logger = logging.getLogger("modelyard")
    before = logger.level
    try:
        configure_logging(Settings(log_level="error"))
        assert logging.getLogger("modelyard.gateway").getEffectiveLevel() == logging.ERROR
    finally:
        for name in ("modelyard", "deployments", "graph", "router"):
            logging.getLogger(name).setLevel(before)


@pytest.mark.parametrize("address", [None, "127.0.0.1:1"])
def test_what_was_never_joined_is_not_stopped(monkeypatch, address):
    import ray
    from ray import serve

    asked = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(deployments.ray_host, "_descendants", lambda _: set())  # here: the tests' own servers
    for name in ("shutdown", "status", "delete"):
        monkeypatch.setattr(serve, name, lambda *_, name=name, **__: asked.append(name))
    RayHost(Settings(address=address)).stop()
    assert asked == []


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_is_not_there_is_told_at_once(listener, scheme):
    address = f"{scheme}127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    with pytest.raises(ModelyardError, match=f"the Ray cluster {address} cannot be joined: .*refused"):
        RayHost(Settings(address=address)).start()
