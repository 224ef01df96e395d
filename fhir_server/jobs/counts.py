"""What Prometheus scrapes of the feed and the timers: names and numbers, nothing of what they are about."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

LAG = Gauge(
    "healthsphere_feed_lag_seconds",
    "Age of the oldest change that a follower in this process has not yet handled",
    ["follower"],
    multiprocess_mode="livemax",
)
HANDLED = Counter("healthsphere_feed_changes_total", "Changes that a follower has handled", ["follower"])
FAILED = Counter("healthsphere_feed_failures_total", "Times that a follower's handler has failed", ["follower"])
DEAD = Counter("healthsphere_feed_dead_total", "Changes that were set aside after all tries", ["follower"])
RECOVERED = Counter("healthsphere_feed_recoveries_total", "Times that the stream's history was lost", ["follower"])

TIMERS = Counter("healthsphere_timers_total", "Timers that were handled", ["kind"])
TIMERS_FAILED = Counter("healthsphere_timers_failures_total", "Times that a timer's handler has failed", ["kind"])
TIMERS_DEAD = Counter("healthsphere_timers_dead_total", "Timers that were set aside after all tries", ["kind"])
