"""The HTTP application and the broker's set-points of a live market, put together of everybody's parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peerwatt.clocks import EngineClock, Stopwatch, utc_now_us
from peerwatt.live.reports import BATTERY, CAR, CURTAILMENT

if TYPE_CHECKING:
    from market.engine.engine import Engine
    from market.journal.protocol import Journal
    from market.journal.vault import Vault
    from peerwatt.api.binding import Binding
    from peerwatt.api.metrics import Metrics
    from peerwatt.api.security import Security
    from peerwatt.api.service import DevicesPort, HistoryPort
    from peerwatt.gateway.gateway import Gateway
    from peerwatt.live.reports import SetPoint
    from peerwatt.system import System


LATE_S = 0.1
"""A gate that closes later than this counts as late [s of the wall clock]."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application stands on."""

    journal: Journal
    vault: Vault
    security: Security
    engine: Engine
    clock: EngineClock


def make_app(
    parts: Parts,
    system: System,
    metrics: Metrics,
    history: HistoryPort,
    binding: Binding,
    devices: DevicesPort | None = None,
) -> tuple[Callable[..., Awaitable[Any]], Callable[[], Awaitable[None]]]:
    """The application that the server serves, and what ends its streams before the server ends."""
    from peerwatt.api.app import create_app
    from peerwatt.api.service import Service
    from peerwatt.api.stream_hub import StreamHub
    from peerwatt.api.stream_wire import WireForm
    from peerwatt.api.views import market_facts
    from peerwatt.live.genesis import period_terms
    from peerwatt.live.network_view import network_out
    from peerwatt.live.stream_state import snapshot_provider
    from peerwatt.wire.times import SlotNames

    engine, security, config = parts.engine, parts.security, parts.engine.config
    currency = system.static.currency
    names = SlotNames(config.start_us, config.slot_s)
    hub = StreamHub(
        engine.head.seq,
        snapshot_provider(engine, names, market_facts(config), currency),
        present=WireForm(names, engine.participant_of),
    )
    engine.subscribe(hub.publish)
    metrics.follow(engine, parts.clock, late_s=LATE_S / parts.clock.wall_s(1_000_000))
    metrics.watch_engine(lambda: engine.waiting, lambda: engine.head.seq, lambda: engine.snapshot_age_s)
    metrics.watch_stream(hub.counts)
    service = Service(
        engine=engine,
        journal=parts.journal,
        vault=parts.vault,
        registry=security.registry,
        guard=security.guard,
        tokens=security.tokens,
        pager=security.pager,
        hub=hub,
        metrics=metrics,
        clock=parts.clock,
        speed=parts.clock.speed,
        wall=utc_now_us,
        elapsed_s=Stopwatch().elapsed_s,
        currency=currency,
        network=network_out(system),
        history=history,
        billing=period_terms(system),
        devices=devices,
        trouble=lambda: "" if engine.broken is None else "broken",
    )
    return create_app(service, hosts=binding.hosts), hub.close


def set_point_sink(gateway: Gateway) -> Callable[[list[SetPoint]], None]:
    """Sends set-points to the broker; they hold until their slot is over."""

    def publish(points: list[SetPoint]) -> None:
        for point in points:
            watts = {BATTERY: point.battery_w, CAR: point.ev_w, CURTAILMENT: point.curtail_w}
            gateway.publish_set_points(
                point.participant_id,
                point.slot,
                {device: watts[device] for device in point.devices},
                valid_until_us=point.end_us,
                source=point.source,
            )

    return publish
