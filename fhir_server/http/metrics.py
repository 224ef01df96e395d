"""What Prometheus scrapes: requests by interaction and status, and how long they took. No label holds health data."""

from __future__ import annotations

import os
from functools import lru_cache

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from fhir_server.version import VERSION

SECONDS = Histogram(
    "healthsphere_http_request_duration_seconds",
    "Time from the request's head until its answer was handed over",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
IN_FLIGHT = Gauge("healthsphere_http_requests_in_flight", "Requests under way", multiprocess_mode="livesum")
BUILD = Gauge("healthsphere_build_info", "The version that runs", ["version"], multiprocess_mode="max")
BUILD.labels(VERSION).set(1)


@lru_cache(maxsize=2048)
def seconds_of(method: str, route: str, status: int) -> Histogram:
    """The histogram of one kind of request; `route` is a shape (`{type}/{id}`), never an address."""
    return SECONDS.labels(method, route, str(status))


def exposition() -> tuple[bytes, str]:
    """The metrics of all worker processes as text, and its content type."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
