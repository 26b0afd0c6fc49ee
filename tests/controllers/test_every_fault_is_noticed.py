"""Every fault of the catalogue is played at least once over real sockets, and noticed; without it nothing is."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from hardware.emulator.faults import CATALOGUE
from tests.controllers.faults_rows import HOLD, LOOK, RELEASED, ROWS, TELL, UNNOTICED, Row, table
from tests.controllers.faults_stories import Seen, Story, told

PAGE = Path(__file__).parents[2] / "docs" / "faults-noticed.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"
WRONG_W = 300.0  # before it is called wrong, a power may be off by so much: 2 % of it, and 1 % of the rating

EVERYDAY = [row for row in ROWS if not row.slow]
SLOW = [row for row in ROWS if row.slow]
HELD = [row for row in ROWS if row.guardian]


@functools.cache
def calm(story: Story) -> Seen:
    """The story without any fault."""
    return told(story)


def play(row: Row) -> None:
    """The fault strikes and is noticed, no false value was believed; without it nobody says so."""
    seen, without = told(row.story, row.fault, row.params), calm(row.story)
    assert seen.struck > 0, "it was never played"
    for notice in row.notices:
        assert seen.has(notice), f"{notice!r} is not among {sorted(seen.noticed)}"
        assert not without.has(notice), f"{notice!r} is said without the fault too"
    assert row.besides or not without.noticed, f"false alarms: {sorted(without.noticed)}"
    assert seen.wrong_w < WRONG_W


def _name(row: Row) -> str:
    return f"{row.fault}-{type(row.story).__name__.lower()}"


def test_every_fault_has_a_row_or_a_reason() -> None:
    assert {row.fault for row in ROWS} | set(UNNOTICED) == set(CATALOGUE)
    assert not {row.fault for row in ROWS} & set(UNNOTICED)
    assert list(UNNOTICED) == ["clock-wrong"], "the list is short, and grows only on purpose"


@pytest.mark.slow
@pytest.mark.parametrize("row", EVERYDAY, ids=_name)
def test_it_is_played_and_noticed(row: Row) -> None:
    play(row)


@pytest.mark.slow
@pytest.mark.parametrize("row", SLOW, ids=_name)
def test_it_is_played_and_noticed_at_length(row: Row) -> None:
    play(row)


@pytest.mark.slow
@pytest.mark.parametrize("row", HELD, ids=_name)
def test_a_guardian_that_holds_a_limit_notices_it(row: Row) -> None:
    seen = told(HOLD, row.fault, row.params)
    assert seen.struck > 0 and all(map(seen.has, row.guardian)), sorted(seen.noticed)
    assert not calm(HOLD).noticed


@pytest.mark.slow
@pytest.mark.parametrize("fault", UNNOTICED)
@pytest.mark.parametrize("story", [LOOK, TELL, RELEASED], ids=lambda story: type(story).__name__.lower())
def test_what_is_said_to_go_unnoticed_does(fault: str, story: Story) -> None:
    """And does no harm: orders are obeyed, end in time, and it may be armed."""
    seen = told(story, fault)
    assert seen.struck > 0 and not seen.noticed


def test_the_page_shows_the_matrix() -> None:
    text = PAGE.read_text(encoding="utf-8")
    shown = text.partition(BEGIN)[2].partition(END)[0]
    assert shown == table(), "write the table anew: tests.controllers.faults_rows.table()"
