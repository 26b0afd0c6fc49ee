"""Figures of the running service for Prometheus. They are sums over everybody: no person, no participant is in them.

What happens often is counted by a plain call on `Metrics`; what is there to be looked at (queue, journal, readers,
broker) is read when somebody asks for the figures. docs/api.md lists them all.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Protocol, get_args

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from market.engine.commands import REFUSALS, Command
from peerwatt.clocks import Stopwatch
from peerwatt.wire.times import US

if TYPE_CHECKING:
    from market.engine.engine import Engine
    from market.engine.publication import Publication
    from market.engine.state import State
    from peerwatt.api.stream_hub import StreamCounts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

OUTCOMES = ("done", "repeated", "refused", "error")
"""What becomes of a command. ``repeated``: the first answer again; ``error``: it could not be carried out."""

_COMMANDS = frozenset(command.__name__ for command in get_args(Command))
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
_COMMIT_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
_CLEARING_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_PUBLISH_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
_HTTP_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_GROUP = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)

Read = Callable[[], float | Mapping[str, float]]
"""Gives a figure, or figures by the value of the metric's one label; NaN or nothing where there is none."""


class LinkStatus(Protocol):
    """How the link to an MQTT broker is doing; `hardware.mqtt` has one."""

    @property
    def connected(self) -> bool:
        """Whether it is up."""

    @property
    def connects(self) -> int:
        """How often it came up."""

    @property
    def failures(self) -> int:
        """How often an attempt failed or a connection broke."""

    @property
    def queued(self) -> int:
        """Messages that wait for it."""

    @property
    def dropped(self) -> int:
        """Messages that were given up for want of room."""


class _Looked(Collector):
    """Figures that are read when somebody asks."""

    def __init__(self) -> None:
        self._metrics: dict[str, tuple[str, str, Read]] = {}

    def add(self, name: str, text: str, read: Read, label: str = "") -> None:
        self._metrics[name] = (text, label, read)

    def collect(self) -> Iterator[Metric]:
        for name, (text, label, read) in self._metrics.items():
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family = kind(name, text, labels=[label] if label else None)
            value = read()
            for key, number in sorted(value.items()) if isinstance(value, Mapping) else [("", value)]:
                family.add_metric([key] if label else [], number)
            yield family


class Metrics:
    """Counts what the engine and the HTTP side do. Every call takes about a microsecond and never raises.

    It is a `market.engine.engine.Watcher`; `follow` ties it to an engine. ``elapsed_s`` is a monotonic clock [s].
    """

    def __init__(self, elapsed_s: Callable[[], float] | None = None) -> None:
        self._elapsed_s = Stopwatch().elapsed_s if elapsed_s is None else elapsed_s
        self._group_began_s = 0.0
        self.registry = CollectorRegistry()
        self._looked = _Looked()
        self.registry.register(self._looked)
        self.registry.register(PLATFORM_COLLECTOR)
        self.registry.register(GC_COLLECTOR)
        ProcessCollector(registry=self.registry)
        self._commands: dict[tuple[str, str], Counter] = {}
        self._refusals: dict[str, Counter] = {}
        self._requests: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._slots: dict[str, float] = {}
        self._define()

    def _define(self) -> None:
        registry = self.registry

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        self._command_kinds = counter(
            "peerwatt_engine_commands_total", "Commands by kind and what became of them", "kind", "outcome"
        )
        self._refusal_codes = counter("peerwatt_engine_refusals_total", "Refused commands and orders by code", "code")
        self._group = histogram("peerwatt_engine_group_commands", "Commands committed together", _GROUP)
        self._group_records = histogram("peerwatt_engine_group_records", "Records committed together", _GROUP)
        self._commit = histogram("peerwatt_engine_commit_seconds", "Time to make a group durable", _COMMIT_S)
        self._clearing = histogram("peerwatt_clearing_seconds", "Time to clear a slot", _CLEARING_S, "market")
        self._publish = histogram(
            "peerwatt_gate_to_publish_seconds", "From a slot's gate to its published result", _PUBLISH_S, "market"
        )
        self._late = counter("peerwatt_late_gates_total", "Gates that closed later than they should", "market")
        self._route = counter(
            "peerwatt_http_requests_total", "HTTP requests by method, route template and status",
            "method", "route", "status",
        )  # fmt: skip
        self._route_s = histogram("peerwatt_http_request_seconds", "Time to answer", _HTTP_S, "method", "route")
        self._looked.add("peerwatt_slots", "Slots that the engine keeps, by state", lambda: self._slots, "state")

    # --- the engine -------------------------------------------------------------------------------------------------

    def command(self, kind: str, outcome: str) -> None:
        """A command of class ``kind`` was answered; ``outcome`` is of ``OUTCOMES``, or the code of a refusal."""
        child = self._commands.get((kind, outcome))
        if child is None:
            known = outcome if outcome in OUTCOMES else "refused"
            child = self._command_kinds.labels(kind if kind in _COMMANDS else "other", known)
            if outcome in OUTCOMES or outcome in REFUSALS:
                self._commands[kind, outcome] = child
        child.inc()
        if outcome not in OUTCOMES:
            self.refused(outcome)

    def refused(self, code: str, n: int = 1) -> None:
        """``n`` commands, or single orders of one, were refused with a code of ``REFUSALS``."""
        child = self._refusals.get(code)
        if child is None:
            known = code if code in REFUSALS else "other"
            child = self._refusals[known] = self._refusal_codes.labels(known)
        child.inc(n)

    def group(self, commands: int, records: int) -> None:
        """A group is about to be made durable."""
        self._group.observe(commands)
        self._group_records.observe(records)
        self._group_began_s = self._elapsed_s()

    def committed(self) -> None:
        """And is durable."""
        self._commit.observe(self._elapsed_s() - self._group_began_s)

    def clearing(self, market: str, clearing_s: float) -> None:
        """A slot was cleared, which took ``clearing_s``."""
        self._clearing.labels(market).observe(clearing_s)

    def published(self, market: str, gate_to_publish_s: float) -> None:
        """A slot's price was told, so long after its gate [s, engine time]."""
        self._publish.labels(market).observe(gate_to_publish_s)

    def late_gate(self, market: str) -> None:
        """A gate closed late."""
        self._late.labels(market).inc()

    def slots(self, counts: Mapping[str, int]) -> None:
        """How many slots stand in which state; see `slot_states`."""
        self._slots = {state: float(n) for state, n in counts.items()}

    # --- HTTP -------------------------------------------------------------------------------------------------------

    def request(self, method: str, route: str, status: int, elapsed_s: float) -> None:
        """A request was answered. ``route`` is the template of its path, empty if there was none."""
        if method not in _METHODS:  # else a client could make as many as it likes
            method = "other"
        key = (method, route, status)
        children = self._requests.get(key)
        if children is None:
            known = method, route or "unmatched"
            children = self._requests[key] = (
                self._route.labels(*known, str(status)),
                self._route_s.labels(*known),
            )
        children[0].inc()
        children[1].observe(elapsed_s)

    # --- what is looked at ------------------------------------------------------------------------------------------

    def watch(self, name: str, text: str, read: Read, label: str = "") -> None:
        """Read a figure whenever figures are asked for; a name that ends in ``_total`` only rises."""
        self._looked.add(name, text, read, label)

    def watch_engine(
        self, queue: Callable[[], int], head_seq: Callable[[], int], snapshot_age_s: Callable[[], float]
    ) -> None:
        """Look at the engine's queue, its journal and the age of its last snapshot [s] (NaN if there is none)."""
        self.watch("peerwatt_engine_queue_commands", "Commands that wait for the writer", queue)
        self.watch("peerwatt_journal_seq", "Number of the last durable record", head_seq)
        self.watch("peerwatt_snapshot_age_seconds", "Engine time since the last snapshot", snapshot_age_s)

    def follow(self, engine: Engine, clock: Callable[[], int], *, late_s: float = 1.0) -> Callable[[], None]:
        """Be the engine's watcher, count its orders, and compare its gates with ``clock`` (engine time).

        A gate is late when it closes more than ``late_s`` of engine time after it should. Returns what ends it.
        """
        engine.watcher = self
        self.watch("peerwatt_orders_accepted_total", "Orders taken", lambda: engine.state.next_order - 1)
        config = engine.config
        markets = {market.market_id: market for market in config.markets}

        def note(news: Publication) -> None:
            if news.topic == "price":
                gate_us = config.gate_us(markets[news.market], news.slot)
                self.published(news.market, (clock() - gate_us) / US)
            elif news.topic == "slot" and news.data.get("state") == "gate_closed":
                gate_us = config.gate_us(markets[news.market], news.slot)
                if news.at_us - gate_us > late_s * US:
                    self.late_gate(news.market)

        return engine.subscribe(note)

    def watch_stream(self, counts: StreamCounts) -> None:
        """Follow the live stream."""
        self.watch("peerwatt_stream_readers", "Readers of the live stream", lambda: counts.readers)
        for name, text in (
            ("events", "Pieces of news"),
            ("deliveries", "Pieces of news handed to readers"),
            ("writes", "Writes to readers"),
            ("resyncs", "Times that a reader fell behind and began anew"),
            ("dropped", "Readers that were cut off for being slow"),
            ("refused", "Readers that there was no room for"),
        ):
            self.watch(f"peerwatt_stream_{name}_total", text, partial(getattr, counts, name))

    def watch_mqtt(self, status: Callable[[], LinkStatus]) -> None:
        """Follow the link to the broker."""
        self.watch("peerwatt_mqtt_connected", "1 if the broker is there", lambda: float(status().connected))
        self.watch(
            "peerwatt_mqtt_reconnects_total", "Connections after the first", lambda: max(status().connects - 1, 0)
        )
        self.watch("peerwatt_mqtt_failures_total", "Attempts that failed and broken links", lambda: status().failures)
        self.watch("peerwatt_mqtt_queued_messages", "Messages that wait for the broker", lambda: status().queued)
        self.watch("peerwatt_mqtt_dropped_total", "Messages given up for want of room", lambda: status().dropped)

    def text(self) -> bytes:
        """All figures in Prometheus' text format, of ``CONTENT_TYPE``. Takes milliseconds."""
        return generate_latest(self.registry)


def slot_states(state: State) -> dict[str, int]:
    """Slots of all markets by state; hand it to ``Engine.read`` and the answer to `Metrics.slots`."""
    return dict(Tally(str(book.status) for market in state.markets.values() for book in market.books.values()))
