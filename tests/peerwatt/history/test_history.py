"""Days of a live market go into files once they are over, and come back as they went in."""

from __future__ import annotations

import asyncio
import csv
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from core import RunError
from market.engine import facts as f
from market.settlement import BILL_LINES, LEDGER_KINDS
from peerwatt.history import History, HistoryWriter, files, rebuild
from peerwatt.history.tables import MEMBERS as MEMBERS_TABLE
from peerwatt.history.tables import SYSTEM_ACCOUNTS, TABLES
from tests.peerwatt.history.live_days import DAY_US, HOUR_US, MEMBERS, SLOTS, START_US, contents, days, settled

LATE_US = START_US + 30 * DAY_US


def written(folder: Path, n_slots: int = 72) -> HistoryWriter:
    writer = HistoryWriter(folder, SLOTS)
    for fact in days(n_slots):
        writer.take(*fact)
    writer.write_now(LATE_US)
    return writer


def test_what_went_in_comes_out(tmp_path: Path) -> None:
    writer = written(tmp_path / "h")
    history = History(tmp_path / "h", SLOTS, writer.recent)
    prices = history.prices(20, 30)
    assert prices.column("slot").to_pylist() == [s for s in range(20, 30) for _ in range(2)]
    assert prices.column("market").to_pylist() == ["day-ahead", "spot"] * 10
    assert prices.filter(pc.equal(prices.column("slot"), 24)).column("price_num").to_pylist() == [None, None]
    assert history.prices(20, 30, "spot").column("price_num").to_pylist()[0] == 570_020
    network = history.network(0, 72)
    assert network.column("loss_wh").to_pylist() == [17 + s for s in range(72)]
    assert network.column("state").to_pylist()[0] == '{"v_pu":{"a":1.0,"b":0.99}}'
    fact, parts = settled(40)
    own = parts[4]
    assert isinstance(own, f.SettledPart)
    row = history.member_slots(4, 40, 41).to_pylist()[0]
    assert [row[f"posted_{kind}_u"] for kind in LEDGER_KINDS] == list(own.posted_u)
    assert [row[f"line_{line}_u"] for line in BILL_LINES] == list(own.lines_u)
    assert (row["import_wh"], row["sold_wh"], row["baseline_u"]) == (own.import_wh, own.sold_wh, own.baseline_u)
    assert row["total_u"] == sum(own.lines_u) and row["start"].isoformat() == "2016-06-02T16:00:00+00:00"
    slots = history.slot_settlements(0, 72).to_pylist()
    assert [row["slot"] for row in slots] == list(range(72))
    assert slots[40]["retailer_contract_u"] == fact.accounts_u[0][0] and slots[40]["members"] == 3


@pytest.mark.slow
def test_every_slot_balances_in_the_files(tmp_path: Path) -> None:
    written(tmp_path / "h")
    history = History(tmp_path / "h", SLOTS)
    total = history.slot_settlements(0, 72)
    for kind in LEDGER_KINDS:
        theirs = sum(pc.sum(history.member_slots(m, 0, 72).column(f"posted_{kind}_u")).as_py() for m in MEMBERS)
        others = sum(pc.sum(total.column(f"{account}_{kind}_u")).as_py() for account in SYSTEM_ACCOUNTS)
        assert theirs + others == 0


def test_a_day_is_written_when_it_is_over_and_is_readable_before(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path / "h", SLOTS)
    for fact in days(30):
        writer.take(*fact)
    history = History(tmp_path / "h", SLOTS, writer.recent)
    before = history.prices(0, 30)
    assert writer.write_now(START_US + DAY_US) == 0, "its last slots are still to be settled"
    assert writer.write_now(START_US + DAY_US + HOUR_US) == 1
    assert contents(tmp_path / "h").keys() == {f"{t}/date=2016-06-01.parquet" for t in TABLES}
    assert history.prices(0, 30).equals(before)
    assert len(history.member_slots(0, 0, 30)) == 30
    assert len(History(tmp_path / "h", SLOTS).member_slots(0, 0, 30)) == 24, "the rest is in no file yet"


def test_taken_again_after_a_restart_nothing_changes(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path / "h", SLOTS)
    for fact in days(40):
        writer.take(*fact)
    writer.write_now(START_US + DAY_US + HOUR_US)
    first_of_next_day = next(seq for seq, _, fact, _ in days(40) if getattr(fact, "slot", 0) == 24)
    assert writer.after == first_of_next_day - 1
    before = contents(tmp_path / "h")
    again = HistoryWriter(tmp_path / "h", SLOTS)
    assert again.after == writer.after
    for fact in days(72):
        again.take(*fact)
    again.write_now(LATE_US)
    after = contents(tmp_path / "h")
    assert {name: after[name] for name in before} == before
    written(tmp_path / "whole")
    assert after == contents(tmp_path / "whole")


@pytest.mark.slow
def test_the_same_days_are_the_same_bytes_however_often_they_are_written(tmp_path: Path) -> None:
    written(tmp_path / "once")
    writer = HistoryWriter(tmp_path / "often", SLOTS)
    for n, fact in enumerate(days(72)):
        writer.take(*fact)
        if n % 17 == 0:
            writer.write_now(LATE_US)
    writer.write_now(LATE_US)
    assert contents(tmp_path / "often") == contents(tmp_path / "once")
    assert writer.after == days(72)[-1][0]


def test_a_correction_is_a_further_version_of_the_day(tmp_path: Path) -> None:
    writer = written(tmp_path / "h")
    before = contents(tmp_path / "h")
    writer.take(9000, LATE_US, *settled(30, 2))
    history = History(tmp_path / "h", SLOTS, writer.recent)
    early = history.member_slots(1, 30, 31)
    assert writer.write_now(LATE_US) == 1
    after = contents(tmp_path / "h")
    assert {name for name in after if after[name] != before[name]} == {
        "members/date=2016-06-02.parquet", "settlements/date=2016-06-02.parquet",
    }  # fmt: skip
    assert history.member_slots(1, 30, 31).column("version").to_pylist() == [2]
    assert history.member_slots(1, 30, 31).equals(early)
    assert history.member_slots(1, 30, 32, all_versions=True).column("version").to_pylist() == [1, 2, 1]
    assert history.slot_settlements(30, 31).column("reason").to_pylist() == ["meter"]
    assert history.slot_settlements(30, 31, all_versions=True).num_rows == 2


def test_the_wires_measured_again_hold_in_their_last_measurement(tmp_path: Path) -> None:
    writer = written(tmp_path / "h")
    writer.take(9000, LATE_US, f.NetworkMeasured(5, 99), {})
    history = History(tmp_path / "h", SLOTS, writer.recent)
    for _ in range(2):
        assert history.network(5, 6).column("loss_wh").to_pylist() == [99]
        writer.write_now(LATE_US)


def _sums(folder: Path) -> dict[str, int]:
    rows = pa.concat_tables([pq.read_table(p) for p in sorted((folder / "members").iterdir())])
    return {
        name: pc.sum(rows.column(name)).as_py()
        for name in rows.column_names if name.endswith(("_u", "_wh")) or name == "members"
    }  # fmt: skip


def test_an_erased_member_is_in_no_file_and_the_sums_stay(tmp_path: Path) -> None:
    writer = written(tmp_path / "h")
    writer.take(8000, LATE_US, *settled(71, 2))
    whole = written(tmp_path / "whole")
    whole.take(8000, LATE_US, *settled(71, 2))
    whole.write_now(LATE_US)
    sums = _sums(tmp_path / "whole")
    for seq, member in ((9000, 1), (9001, 4)):
        writer.take(seq, LATE_US, f.Erased(member), {})
        assert member not in writer.recent(MEMBERS_TABLE, 0, 72).column("member").to_pylist()
        writer.write_now(START_US)
        assert files.days_of_member(tmp_path / "h", member) == []
        assert _sums(tmp_path / "h") == sums
        assert writer.after == seq
        history = History(tmp_path / "h", SLOTS, writer.recent)
        assert history.member_slots(member, 0, 72).num_rows == 0
    folded = History(tmp_path / "h", SLOTS).member_slots(-1, 71, 72, all_versions=True).to_pylist()
    assert [(row["version"], row["members"], row["quality"]) for row in folded] == [(1, 2, None), (2, 2, None)]
    assert files.days_of_member(tmp_path / "h", 1) == files.days_of_member(tmp_path / "h", 4) == []


def test_a_crash_between_erasure_and_files_leaves_nothing_personal_and_loses_no_sums(tmp_path: Path) -> None:
    """The key is gone when the facts are taken again: what the files know of the member is folded, not lost."""
    writer = written(tmp_path / "h")
    sums = _sums(tmp_path / "h")
    files.write_position(tmp_path / "h", 0)  # as if it had not been noted in time
    again = HistoryWriter(tmp_path / "h", SLOTS)
    for seq, at_us, fact, parts in days(72):
        again.take(seq, at_us, fact, {m: None if m == 1 else part for m, part in parts.items()})
    again.take(9000, LATE_US, f.Erased(1), {})
    again.write_now(LATE_US)
    assert files.days_of_member(tmp_path / "h", 1) == []
    assert _sums(tmp_path / "h") == sums
    assert again.after == 9000 > writer.after


def test_made_anew_from_the_journal_it_is_the_same_bytes(tmp_path: Path) -> None:
    written(tmp_path / "h")
    before = contents(tmp_path / "h")
    (tmp_path / "h" / "prices" / "date=2016-06-02.parquet").write_bytes(b"damaged")
    with pytest.raises(RunError, match="made anew"):
        HistoryWriter(tmp_path / "h", SLOTS)._write_day(files.day_of(START_US + DAY_US), _some_rows(), frozenset())
    writer = rebuild(tmp_path / "h", SLOTS, days(72))
    writer.write_now(LATE_US)
    assert contents(tmp_path / "h") == before
    assert not [p for p in tmp_path.iterdir() if p.name != "h"]


def _some_rows():
    from peerwatt.history.rows import DayRows, take_cleared

    rows = DayRows()
    take_cleared(rows, 1, START_US, f.Cleared("spot", 30, 1, 4, 1000, 1, 3, b"b", b"r"))
    return rows


def test_made_anew_after_an_erasure_only_the_postings_are_known(tmp_path: Path) -> None:
    writer = rebuild(tmp_path / "h", SLOTS, days(30, gone=(1, 4)))
    writer.write_now(LATE_US)
    row = History(tmp_path / "h", SLOTS).member_slots(-1, 3, 4).to_pylist()[0]
    parts = settled(3)[1]
    posted = [sum(parts[m].posted_u[k] for m in (1, 4)) for k in range(len(LEDGER_KINDS))]  # type: ignore[union-attr]
    assert [row[f"posted_{kind}_u"] for kind in LEDGER_KINDS] == posted
    assert row["members"] == 2 and row["import_wh"] is None and row["total_u"] is None


def test_a_failed_write_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = HistoryWriter(tmp_path / "h", SLOTS)
    for fact in days(72):
        writer.take(*fact)
    write, calls = files.write_day, []

    def full(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 6:
            raise OSError("no space left")
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(files, "write_day", full)
    with pytest.raises(OSError, match="no space"):
        asyncio.run(writer.write_due(LATE_US))
    assert writer.after == 0 and files.read_position(tmp_path / "h") == 0
    assert len(History(tmp_path / "h", SLOTS, writer.recent).prices(0, 72)) == 144
    assert asyncio.run(writer.write_due(LATE_US)) == 3
    written(tmp_path / "whole")
    assert contents(tmp_path / "h") == contents(tmp_path / "whole")


def test_half_written_files_are_cleared_away_and_strange_folders_left_alone(tmp_path: Path) -> None:
    written(tmp_path / "h")
    half = tmp_path / "h" / "prices" / ".date=2016-06-04.parquet.tmp"
    half.write_bytes(b"half")
    HistoryWriter(tmp_path / "h", SLOTS)
    assert not half.exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="letter"):
        HistoryWriter(tmp_path / "home", SLOTS)


def test_what_is_asked_for_is_bound_not_written_into_the_query(tmp_path: Path) -> None:
    written(tmp_path / "it's; DROP")
    history = History(tmp_path / "it's; DROP", SLOTS)
    assert history.prices(0, 72, "spot' OR '1'='1").num_rows == 0
    assert history.prices(0, 72, "spot").num_rows == 72
    assert history.prices(9, 3).num_rows == 0 and history.prices(10**9, 10**9 + 5).num_rows == 0


def test_a_member_takes_its_rows_away(tmp_path: Path) -> None:
    writer = written(tmp_path / "h")
    writer.take(9000, LATE_US, *settled(30, 2))
    history = History(tmp_path / "h", SLOTS, writer.recent)
    rows = list(csv.DictReader(io.StringIO(history.export_member(4, "csv").decode())))
    assert len(rows) == 73 and {row["member"] for row in rows} == {"4"}
    assert rows[0]["start"] == "2016-06-01T00:00:00Z" and "members" not in rows[0]
    table = pq.read_table(io.BytesIO(asyncio.run(history.export(4, "parquet"))))
    assert [str(n) for n in table.column("total_u").to_pylist()] == [row["total_u"] for row in rows]


def test_settlements_come_as_the_engine_has_them(tmp_path: Path) -> None:
    writer = written(tmp_path / "h")
    writer.take(9000, LATE_US, *settled(30, 2))
    history = History(tmp_path / "h", SLOTS, writer.recent)
    whole = asyncio.run(history.settled(4, 0, 72))
    assert len(whole) == 73
    found = asyncio.run(history.settled(4, 29, 72, 2))
    assert [(past.slot, past.version.version) for past in found] == [(29, 1), (30, 1), (30, 2)], "whole slots"
    assert found == whole[29:32]
    fact, parts = settled(30, 2)
    own = parts[4]
    assert isinstance(own, f.SettledPart)
    assert found[2].own.lines_u == own.lines_u and found[2].own.posted_u == own.posted_u
    assert (found[2].version.seq, found[2].version.reason, found[2].version.at_us) == (9000, "meter", LATE_US)
    assert found[2].version.accounts_u == fact.accounts_u
    assert asyncio.run(history.settled(77, 0, 72, 5)) == []
