"""A signal ends `up` where it waits for somebody who never answers, and nothing that ends by itself."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from deployments.stop_signals import given_up_on_signal

ENDS_ITSELF = """
import os, signal, threading
from deployments.stop_signals import given_up_on_signal, stop_on_signals
stop = threading.Event()
stop_on_signals(stop)
with given_up_on_signal(lambda: print("given up", flush=True), patience_s=60):
    os.kill(os.getpid(), signal.SIGTERM)
    stop.wait()
print("went on", signal.set_wakeup_fd(-1))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_silent_cluster_does_not_hold_the_service(number: signal.Signals, unused_tcp_port: int) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        options = ["--store", "memory://", "--port", str(unused_tcp_port), "--address", address]
        up = [sys.executable, "-m", "deployments.cli", "up", *options]
        with subprocess.Popen(up, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout
            try:
                for line in process.stdout:
                    if line.startswith("joining"):
                        break
                silent.accept()[0].close()  # it is known to listen; Ray is next
                process.send_signal(number)
                told = process.communicate(timeout=60)[0]
            finally:
                process.kill()
    assert told.splitlines()[-1].startswith("stopped")
    assert process.returncode == 0


def test_what_ends_in_time_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS_ITSELF], text=True, capture_output=True, timeout=60)
    assert (done.stdout, done.returncode) == ("went on -1\n", 0), done.stderr


def test_an_end_without_a_signal_leaves_nothing() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with given_up_on_signal(lambda: pytest.fail("nobody asked")):
        pass
    assert len(os.listdir("/proc/self/fd")) == before
