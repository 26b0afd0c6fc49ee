"""A meter that says what cannot be true beside the devices is not believed, for long enough; others are."""

from __future__ import annotations

import pytest

from controllers.guardian.connection import Part
from controllers.guardian.meter_check import CYCLES, REST_S, MeterTrust
from controllers.guardian.settings import ConnectionSettings

LIMITED = ConnectionSettings(export_w=4000.0, load_w=3000.0, source_w=500.0)


def part(w: float | None, most_w: float = 10_000.0) -> Part:
    return Part("one", w, most_w, 0.0, True, False)


def after(cycles: int, exchange_w: float, *parts: Part, settings: ConnectionSettings = LIMITED) -> MeterTrust:
    trust = MeterTrust()
    for second in range(cycles):
        trust = trust.after(settings, exchange_w, parts, float(second))
    return trust


@pytest.mark.parametrize(
    ("exchange_w", "device_w", "believed"),
    [
        (-4000.0, -4900.0, True),  # the house draws 900 W
        (4000.0, -4900.0, False),  # the same with its sign turned: 8900 W
        (-900.0, 0.0, False),  # at night with its sign turned: the house would feed in
        (-400.0, 0.0, True),  # 500 W may feed in that nobody measures
        (3000.0, 0.0, True),
    ],
)
def test_what_the_house_would_draw_tells(exchange_w: float, device_w: float, believed: bool) -> None:
    assert after(CYCLES, exchange_w, part(device_w)).doubted(CYCLES) is not believed


def test_a_moment_is_not_enough_and_agreeing_again_is_not_enough() -> None:
    assert not after(CYCLES - 1, 4000.0, part(-4900.0)).doubted(10.0)
    trust = after(CYCLES, 4000.0, part(-4900.0))
    trust = trust.after(LIMITED, -4000.0, [part(-4900.0)], 20.0)
    assert trust.doubted(20.0) and trust.why and not trust.doubted(CYCLES + REST_S)


def test_what_is_not_known_says_nothing() -> None:
    assert not after(9, 4000.0, part(-4900.0), part(None)).doubted(9.0)
    assert after(9, 4000.0, part(-4900.0), part(None, 0.0)).doubted(9.0), "one that can neither draw nor feed in"
    assert not after(9, 4000.0, part(-4900.0), settings=ConnectionSettings(load_w=3000.0)).doubted(9.0), "no limit"
    open_ended = ConnectionSettings(export_w=4000.0)
    assert not after(9, 4000.0, part(-4900.0), settings=open_ended).doubted(9.0), "any load may be there"
