"""Fixtures for tests that look at spans: a real collector, and tracing switched on for one test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.util._once import Once
from otlp import OtlpReceiver


@pytest.fixture
def otlp() -> Iterator[OtlpReceiver]:
    """A running OTLP/HTTP collector."""
    receiver = OtlpReceiver()
    yield receiver
    receiver.close()


@pytest.fixture
def no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the test a process in which no tracer provider was installed yet."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())


@pytest.fixture
def record_spans(no_provider: None) -> Iterator[Callable[..., InMemorySpanExporter]]:
    """Switch tracing on, with a sampler if one is given; returns where ended spans are found."""
    providers: list[TracerProvider] = []

    def on(sampler: Sampler | None = None) -> InMemorySpanExporter:
        exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        providers.append(provider)
        return exporter

    yield on
    for provider in providers:
        provider.shutdown()
