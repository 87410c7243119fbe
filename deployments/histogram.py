"""A histogram for a prometheus_client registry that costs a request little, with exemplars: traces to look at.

The library's own takes a lock for each number and walks along the bounds, 1.7 µs a value against 0.3 µs here. Values
are observed on the event loop alone, so nothing is locked; a scrape from another thread may miss the newest value.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString


class Series:
    """The values of one set of labels."""

    __slots__ = ("bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.exemplars: dict[int, tuple[str, float, float]] = {}
        """By bucket: the last trace that was seen there, its value, and when."""

    def observe(self, value: float, trace_id: str = "") -> None:
        """Count a value. `trace_id` is that of a trace that is kept, or empty."""
        bucket = bisect_left(self.bounds, value)
        self.counts[bucket] += 1
        self.sum += value
        if trace_id:
            self.exemplars[bucket] = (trace_id, value, time.time())


class Histogram(Collector):
    """Series by their labels' values."""

    def __init__(
        self, name: str, about: str, labels: Sequence[str], bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self.name = name
        self.label_names = tuple(labels)
        self._about = about
        self._bounds = tuple(bounds)
        self._les = [*map(floatToGoString, bounds), "+Inf"]
        self._series: dict[tuple[str, ...], Series] = {}
        registry.register(self)

    def labels(self, *values: str) -> Series:
        """Return the series of these values, in the order of the labels' names."""
        found = self._series.get(values)
        if found is None:
            found = self._series[values] = Series(self._bounds)
        return found

    def remove(self, label: str, value: str) -> None:
        """Drop every series whose label has this value."""
        at = self.label_names.index(label)
        self._series = {values: series for values, series in self._series.items() if values[at] != value}

    def describe(self) -> list[Metric]:
        """Return the family without its series: its names must not be taken twice."""
        return [self._family()]

    def collect(self) -> Iterator[Metric]:
        """Return the family as it is now."""
        family = self._family()
        for values, series in list(self._series.items()):
            family.add_metric(values, list(self._buckets(series)), series.sum)
        yield family

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self.name, self._about, labels=self.label_names)

    def _buckets(self, series: Series) -> Iterator[tuple[str, float] | tuple[str, float, Exemplar]]:
        total = 0
        for bucket, (le, count) in enumerate(zip(self._les, list(series.counts), strict=True)):
            total += count
            seen = series.exemplars.get(bucket)
            yield (le, total, Exemplar({"trace_id": seen[0]}, seen[1], seen[2])) if seen else (le, total)
