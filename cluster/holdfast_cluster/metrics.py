"""What Prometheus sees of a node.

Nothing is counted for metrics while work is done: each part keeps plain numbers for itself, and they are read here when
somebody asks for the page.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE

from holdfast_cluster.latency import BUCKETS_SECONDS, LatencyCounts

if TYPE_CHECKING:
    from holdfast_cluster.node import Node

__all__ = ["CONTENT_TYPE", "Metrics"]


class Metrics:
    """Implements prometheus_client's Collector."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(self)

    def page(self) -> bytes:
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        return ()  # names are known only when they are collected

    def collect(self) -> Iterable[Metric]:
        yield from self._ingress()
        yield from self._partitions()
        yield from self._log()

    def _ingress(self) -> Iterable[Metric]:
        ingress, http = self._node.ingress, self._node.http
        yield _histogram(
            "holdfast_ingress_request_duration_seconds",
            "From the request to its answer, for requests that waited for a partition.",
            ingress.latency,
        )
        yield _gauge("holdfast_ingress_requests_outstanding", "Requests that wait.", ingress.outstanding)
        yield _counter("holdfast_ingress_http_requests", "Requests over HTTP.", http.requests)
        yield _gauge("holdfast_ingress_http_connections", "Open HTTP connections.", len(http.connections))
        yield _counter(
            "holdfast_ingress_http_connections_refused", "HTTP connections over the limit.", http.refused_connections
        )

    def _partitions(self) -> Iterable[Metric]:
        leading = GaugeMetricFamily(
            "holdfast_partition_leading", "1: this node leads the partition.", labels=["partition"]
        )
        applied = GaugeMetricFamily(
            "holdfast_partition_applied_index", "Last log entry applied to the tables.", labels=["partition"]
        )
        durable = GaugeMetricFamily(
            "holdfast_partition_durable_index", "Last log entry whose changes are in the tables' file.",
            labels=["partition"],
        )  # fmt: skip
        commands = CounterMetricFamily(
            "holdfast_partition_commands_applied", "Commands applied since the start.", labels=["partition"]
        )
        for number, processor in self._node.processors.items():
            label = [str(number)]
            leading.add_metric(label, float(processor.is_leading))
            applied.add_metric(label, processor.applied_index)
            durable.add_metric(label, processor.durable_index)
            commands.add_metric(label, processor.commands_applied)
        yield from (leading, applied, durable, commands)
        yield _gauge("holdfast_deployments", "Registered deployments.", len(self._node.catalog.deployments))

    def _log(self) -> Iterable[Metric]:
        yield _counter("holdfast_journal_flushes", "Writes with fdatasync of the journal.", self._node.journal_flushes)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, meaning)
    family.add_metric([], value)
    return family


def _counter(name: str, meaning: str, value: float) -> Metric:
    family = CounterMetricFamily(name, meaning)
    family.add_metric([], value)
    return family


def _histogram(name: str, meaning: str, latency: LatencyCounts) -> Metric:
    family = HistogramMetricFamily(name, meaning)
    bounds = [*(str(bound) for bound in BUCKETS_SECONDS), "+Inf"]
    counts = list(zip(bounds, accumulate(latency.counts), strict=True))
    family.add_metric([], buckets=counts, sum_value=latency.sum_seconds)
    return family
