"""Records: kept whole, valid for one device and firmware, and arming only on what leads to the safe value."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from controllers.commissioning.facts import Behaviour, ControlRecord, TimerFacts, Tried, behaviours
from controllers.commissioning.record import Instrument, Named, Record, RecordStore, may_arm
from core.errors import DeviceError
from hardware.driver import Control, Fallback, Identity

WHO = Identity("Maker", "Model", "SN-1", "1.2.3", "opt")
LIMIT = Control("limit_w", 0.0, 10_000.0, 10.0, Fallback.RELEASED, 600, "w", cap=True)
GOOD_TIMER: dict[str, Any] = {
    "set_s": 20, "waited_s": 21.0, "resolution_s": 0.1, "expired_s": 20.1, "settled_s": 21.0,
    "expires_while_read": True, "held_by_order": True, "held_by_timer": True, "held_by_other": False,
    "fell_to": "released", "fell_to_value": 8000.0, "survives_reboot": False,
}  # fmt: skip


def record(timer: dict[str, Any] | None = None, control: dict[str, Any] | None = None, **changes: Any) -> Record:
    facts = TimerFacts(**{**GOOD_TIMER, **(timer or {})})
    found: dict[str, Any] = {
        "control": "limit_w",
        "tried": (Tried(value=5000.0, measured=4990.0, effect_s=0.5, error=0.0, ok=True),),
        "timer": facts,
        "behaviours": behaviours(facts),
    }
    whole: dict[str, Any] = {
        "made_at": datetime(2026, 11, 23, 10, tzinfo=UTC),
        "identity": Named.of(WHO),
        "address": "tcp://h:502",
        "unit": 1,
        "profile": "sunspec",
        "technician": "T. One",
        "witness": "W. Two",
        "instrument": Instrument(name="none"),
        "clock_offset_s": 0.2,
        "controls": {"limit_w": ControlRecord(**{**found, **(control or {})})},
        "complete": True,
        "released": True,
    }
    return Record(**{**whole, **changes})


def test_a_record_is_kept_and_found_again_for_exactly_this_device(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "records")
    assert store.valid_for(WHO, "limit_w") is None
    file = store.save(record())
    assert store.load(file) == record()
    assert store.valid_for(WHO, "limit_w") == record()
    assert store.valid_for(WHO, "power_w") is None
    for other in (
        Identity("Maker", "Model", "SN-2", "1.2.3", "opt"),
        Identity("Maker", "Model", "SN-1", "1.2.4", "opt"),
        Identity("Maker", "Model", "SN-1", "1.2.3", ""),
        Identity("Other", "Model", "SN-1", "1.2.3", "opt"),
        Identity("Maker", "Other", "SN-1", "1.2.3", "opt"),
    ):
        assert store.valid_for(other, "limit_w") is None


def test_the_newest_record_counts_also_when_it_is_worse(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    worse = record({"expired_s": None, "settled_s": None}, made_at=record().made_at + timedelta(days=1))
    store.save(worse)
    store.save(record())
    found = store.valid_for(WHO, "limit_w")
    assert found == worse
    assert not may_arm(found, LIMIT, "released")[0]


def test_an_edited_record_is_none(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    file = store.save(record({"expired_s": None, "settled_s": None}))
    content = json.loads(file.read_text())
    content["record"]["controls"]["limit_w"]["timer"]["expired_s"] = 20.0
    file.write_text(json.dumps(content))
    with pytest.raises(DeviceError, match="was changed after it was written"):
        store.load(file)
    assert store.valid_for(WHO, "limit_w") is None
    assert "was changed" in store.refused[file]
    file.write_text("{}")
    assert store.valid_for(WHO, "limit_w") is None and "no commissioning record" in store.refused[file]


def test_what_leads_to_the_safe_value_arms() -> None:
    arms, reason = may_arm(record(), LIMIT, "released")
    assert arms and "falls back to released within 21.0 s" in reason
    assert may_arm(record(), LIMIT, 10_000.0)[0]
    chosen = Control("limit_w", 0.0, 10_000.0, 10.0, Fallback.CHOSEN, 600, "w", cap=True)
    assert may_arm(record({"fell_to": "chosen"}), chosen, 3000.0)[0]
    assert may_arm(record({"expired_s": 26.6, "settled_s": 27.0}), LIMIT, "released")[0]
    assert may_arm(record({"survives_reboot": True, "expired_after_reboot_s": 20.0}), LIMIT, "released")[0]


@pytest.mark.parametrize(
    ("found", "safe", "words"),
    [
        (None, "released", "no commissioning record"),
        (record(complete=False), "released", "broken off"),
        (record(released=False), "released", "not seen without an order"),
        (record(sign="opposite"), "released", "opposite"),
        (record(identity=Named.of(Identity("Maker", "Model", "", "1"))), "released", "no serial number"),
        (record(controls={}), "released", "was not measured"),
        (record(control={"tried": ()}), "released", "no value was tried"),
        (
            record(control={"tried": (Tried(value=1.0, measured=9.0, effect_s=None, error=8.0, ok=False),)}),
            "released",
            "did not obey",
        ),
        (record(control={"timer": None}), "released", "its timer was not measured"),
        (record(control={"behaviours": (Behaviour.NONE,), "timer": None}), "released", "nothing ends the last order"),
        (
            record(control={"behaviours": (Behaviour.ACKNOWLEDGE_AND_DROP,), "tried": ()}),
            "released",
            "not carried out",
        ),
        (record({"expired_s": None, "settled_s": None}), "released", "cosmetic: nothing ends"),
        (record({"expires_while_read": False}), "released", "whoever only reads"),
        (record({"held_by_order": False}), "released", "cannot be held"),
        (record({"fell_to": "last"}), "released", "whatever stood there before"),
        (record({"fell_to": "elsewhere"}), "released", "something else"),
        (record({"fell_to": None}), "released", "was not measured"),
        (record({"fell_to": "chosen"}), "released", "it should be released"),
        (record({"fell_to": "chosen"}), 20_000.0, "cannot be asked for"),
        (record(), 3000.0, "falls back to nothing at all"),
        (record({"survives_reboot": True}), "released", "outlives a reboot"),
        (record({"survives_reboot": None}), "released", "loss of power was not tried"),
        (record(witness=""), "released", "witness"),
        (record({"expired_s": 45.0, "settled_s": 46.0}), "released", "late"),
        (record({"expired_s": 1200.0, "settled_s": 1201.0}), "released", "late"),
    ],
)
def test_what_does_not_lead_there_arms_nothing(found: Record | None, safe: Any, words: str) -> None:
    arms, reason = may_arm(found, LIMIT, safe)
    assert not arms and words in reason


def test_lateness_grows_with_the_timer_and_never_shrinks_below_what_was_seen() -> None:
    facts = TimerFacts(**{**GOOD_TIMER, "set_s": 2, "expired_s": 2.66, "settled_s": 3.0})
    assert facts.lateness_s(20.0) == pytest.approx(6.6)
    assert facts.lateness_s(1.0) == pytest.approx(1.0)
    assert TimerFacts(set_s=2, waited_s=9.0, resolution_s=0.1).lateness_s(20.0) is None
