"""The service's figures: readable by Prometheus, cheap to count, and about nobody in particular."""

from __future__ import annotations

import math
import re
import time
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from market.engine.commands import Tick
from market.session import State as SlotState
from peerwatt.api.metrics import CONTENT_TYPE, Metrics, slot_states
from peerwatt.api.stream_hub import StreamCounts
from tests.market.engine.harness import BUY, SELL, World, config

PLAIN_UNITS = (
    "_seconds",
    "_bytes",
    "_total",
    "_commands",
    "_records",
    "_messages",
    "_readers",
    "_connected",
    "_seq",
    "_slots",
)


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def full() -> Metrics:
    clock = iter((1.0, 1.004))
    metrics = Metrics(lambda: next(clock))
    metrics.command("EnterOrders", "done")
    metrics.command("EnterOrders", "done")
    metrics.command("Measure", "unknown_slot")
    metrics.refused("unknown_slot", 3)
    metrics.group(12, 9)
    metrics.committed()
    metrics.clearing("spot", 0.002)
    metrics.published("spot", 0.03)
    metrics.late_gate("spot")
    metrics.slots({"open": 4, "settled": 2})
    metrics.request("GET", "/api/v1/markets/{market}", 200, 0.002)
    metrics.request("GET", "/api/v1/markets/{market}", 200, 0.004)
    metrics.watch_engine(lambda: 7, lambda: 1234, lambda: math.nan)
    metrics.watch_stream(StreamCounts(readers=3, deliveries=50, dropped=1))
    link = SimpleNamespace(connected=True, connects=3, failures=2, queued=5, dropped=0)
    metrics.watch_mqtt(lambda: link)
    return metrics


def test_what_was_counted_is_told() -> None:
    found = samples(full())
    assert found["peerwatt_engine_commands_total", (("kind", "EnterOrders"), ("outcome", "done"))] == 2
    assert found["peerwatt_engine_commands_total", (("kind", "Measure"), ("outcome", "refused"))] == 1
    assert found["peerwatt_engine_refusals_total", (("code", "unknown_slot"),)] == 4
    assert found["peerwatt_engine_commit_seconds_sum", ()] == pytest.approx(0.004)
    assert found["peerwatt_engine_commit_seconds_bucket", (("le", "0.005"),)] == 1
    assert found["peerwatt_engine_commit_seconds_bucket", (("le", "0.002"),)] == 0
    assert found["peerwatt_engine_group_commands_sum", ()] == 12
    assert found["peerwatt_engine_group_records_sum", ()] == 9
    assert found["peerwatt_gate_to_publish_seconds_count", (("market", "spot"),)] == 1
    assert found["peerwatt_late_gates_total", (("market", "spot"),)] == 1
    assert found["peerwatt_slots", (("state", "open"),)] == 4
    route = (("method", "GET"), ("route", "/api/v1/markets/{market}"))
    assert found["peerwatt_http_requests_total", (*route, ("status", "200"))] == 2
    assert found["peerwatt_http_request_seconds_sum", route] == 0.006
    assert found["peerwatt_engine_queue_commands", ()] == 7
    assert found["peerwatt_journal_seq", ()] == 1234
    assert math.isnan(found["peerwatt_snapshot_age_seconds", ()])
    assert found["peerwatt_stream_readers", ()] == 3
    assert found["peerwatt_stream_deliveries_total", ()] == 50
    assert found["peerwatt_mqtt_connected", ()] == 1
    assert found["peerwatt_mqtt_reconnects_total", ()] == 2
    assert found["process_resident_memory_bytes", ()] > 1e6
    assert CONTENT_TYPE.startswith("text/plain")


def test_names_carry_their_unit() -> None:
    names = {name for name, _ in samples(full()) if name.startswith("peerwatt_") and not name.endswith("_created")}
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    assert not [name for name in bare if not name.endswith(PLAIN_UNITS)]


def test_labels_are_of_closed_sets_whatever_comes_in() -> None:
    metrics = full()
    for n in range(50):
        metrics.request(f"BREW{n}", "", 405, 0.001)
        metrics.refused(f"code-{n}")
        metrics.command(f"Kind{n}", "odd")
    found = samples(metrics)
    assert found["peerwatt_engine_refusals_total", (("code", "other"),)] == 100
    assert found["peerwatt_engine_commands_total", (("kind", "other"), ("outcome", "refused"))] == 50
    brewed = (("method", "other"), ("route", "unmatched"), ("status", "405"))
    assert found["peerwatt_http_requests_total", brewed] == 50
    assert len(metrics._requests) == 2 and len(metrics._commands) < 5 and len(metrics._refusals) < 5


def test_two_services_in_one_process_do_not_share_figures() -> None:
    one, other = full(), Metrics()
    one.late_gate("spot")
    assert ("peerwatt_late_gates_total", (("market", "spot"),)) not in samples(other)


def test_slots_are_counted_by_state() -> None:
    def market(*states: SlotState) -> SimpleNamespace:
        return SimpleNamespace(books={i: SimpleNamespace(status=state) for i, state in enumerate(states)})

    markets = {"a": market(SlotState.OPEN, SlotState.OPEN, SlotState.VOID), "b": market(SlotState.OPEN)}
    assert slot_states(SimpleNamespace(markets=markets)) == {"open": 3, "void": 1}  # type: ignore[arg-type]


def test_counting_is_cheap() -> None:
    metrics = full()
    best = math.inf
    for _ in range(5):
        start = time.process_time()
        for _ in range(2000):
            metrics.command("EnterOrders", "done")
            metrics.request("GET", "/api/v1/markets/{market}", 200, 0.002)
            metrics.refused("unknown_slot")
        best = min(best, (time.process_time() - start) / 6000)
    assert best < 10e-6, "about a microsecond on a quiet machine"


async def test_a_market_that_runs_is_followed() -> None:
    metrics, world = Metrics(), World(config(gate_s=60))
    await world.start()
    end = metrics.follow(world.engine, world.clock)
    await world.do(Tick())
    await world.join("ada", "bo")
    await world.enter(0, BUY, 500, 250_000)
    await world.enter(1, SELL, 500, 150_000)
    again = world.order(1, SELL, 500, 150_000)
    await world.do(again)
    await world.do(again)
    assert await world.refused(world.order(7, BUY, 500, 250_000)) == "not_a_member"
    await world.to(0, seconds=-60 + 0.25)
    await world.to(1, seconds=30)
    end()
    found = samples(metrics)
    await world.stop()
    assert found["peerwatt_orders_accepted_total", ()] == 3
    assert found["peerwatt_engine_commands_total", (("kind", "EnterOrders"), ("outcome", "repeated"))] == 1
    assert found["peerwatt_engine_refusals_total", (("code", "not_a_member"),)] == 1
    assert found["peerwatt_gate_to_publish_seconds_count", (("market", "spot"),)] == 2
    assert found["peerwatt_gate_to_publish_seconds_sum", (("market", "spot"),)] == pytest.approx(0.25 + 90)
    assert found["peerwatt_late_gates_total", (("market", "spot"),)] == 1
    assert found["peerwatt_engine_commit_seconds_count", ()] == found["peerwatt_engine_group_commands_count", ()] > 5
