"""Reading, verifying and stating a run: errors with a remedy, changes that are found, pages a resident can read."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core import RunError, file_sha256
from peerwatt.results import Run, RunWriter, Statement, verify_run
from peerwatt.results.schemas import SLOT_TABLES
from peerwatt.results.testing import MadeUpRun, made_up_static
from peerwatt.results.verify import report_json
from tests.peerwatt.test_results_verify import lawful

N_SLOTS = 300


def make(folder: Path, *, pairs: bool = True, bills: bool = True) -> Path:
    made_up = lawful(MadeUpRun.of(made_up_static(6, N_SLOTS, pairs=pairs)))
    writer = RunWriter(folder, made_up.static, SLOT_TABLES, 96)
    writer.write(made_up.record(0, N_SLOTS))
    return writer.finish(bills=made_up.bills() if bills else None)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("runs") / "good")


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "run"))


def rewrite(folder: Path, name: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change a part and its hash in the manifest, as somebody would who covers up."""
    path = folder / name
    pq.write_table(change(pq.read_table(path)), path)
    rehash(folder, name)


def rehash(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = file_sha256(folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def add(column: str, row: int, amount: int) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table.column(column).to_numpy().copy()
        values[row] += amount
        at = table.schema.get_field_index(column)
        return table.set_column(at, table.schema.field(at), pa.array(values))

    return change


# --- reading ----------------------------------------------------------------------------------------------------------


def test_run_reads_columns_and_parts(good: Path) -> None:
    run = Run(good)
    assert list(run.table("ledger", ["slot", "levies_u"]).columns) == ["slot", "levies_u"]
    assert [len(part) for part in run.parts("slots")] == [96, 96, 96, 12]
    assert run.static.rule == "pair_price"
    assert run.table("slots", ["slot"])["slot"].is_monotonic_increasing
    assert "bills" in run.tables


def test_errors_say_what_to_do(good: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no folder"):
        Run(tmp_path / "nowhere")
    with pytest.raises(RunError, match="holds no run"):
        Run(tmp_path)
    run = Run(good)
    with pytest.raises(RunError, match="tables are: slots, buildings"):
        run.table("slot")
    with pytest.raises(RunError, match="has no column price"):
        run.table("slots", ["price"])
    with pytest.raises(RunError, match="there is no building h99"):
        run.statement("h99")


# --- verify -----------------------------------------------------------------------------------------------------------


def test_a_good_run_verifies(good: Path, tmp_path: Path) -> None:
    for folder in (good, make(tmp_path / "pool", pairs=False), make(tmp_path / "plain", bills=False)):
        report = verify_run(folder)
        assert report.ok, str(report)
        assert len(report.checks) == 12
        assert "all right" in str(report)
        assert json.loads(report_json(report))["ok"] is True


@pytest.mark.slow
def test_one_changed_byte_is_found_anywhere(copy: Path) -> None:
    names = [n for n in json.loads((copy / "manifest.json").read_text())["files"] if (copy / n).stat().st_size]
    assert len(names) > 40
    for name in names[:: len(names) // 9]:
        path = copy / name
        before = path.read_bytes()
        middle = len(before) // 2
        path.write_bytes(before[:middle] + bytes([before[middle] ^ 1]) + before[middle + 1 :])
        report = verify_run(copy)
        assert not report.ok
        assert name in {p.file for p in report.problems if p.check == "hash"}
        path.write_bytes(before)
    assert verify_run(copy).ok


def test_missing_and_added_files_are_found(copy: Path) -> None:
    (copy / "slots.parquet" / "part-00001.parquet").unlink()
    (copy / "extra.txt").write_text("?")
    text = str(verify_run(copy))
    assert "slots.parquet/part-00001.parquet: the file is missing" in text
    assert "extra.txt: the manifest does not know this file" in text
    assert "204 rows in 3 parts, the manifest says 300 in 4" in text


def test_a_changed_amount_is_found_with_its_slot(copy: Path) -> None:
    name = "ledger.parquet/part-00001.parquet"
    rewrite(copy, name, add("residual_u", 10 * 25 + 3, 1))  # 10 accounts: slot 96 + 25
    text = str(verify_run(copy))
    assert f"ledger: {name}: slot 121: residual_u sums to 1 micro-currency, not to 0" in text
    assert "the ledger sums to" in text
    assert "hash" not in text


def test_money_moved_between_members_is_found_by_their_bills(copy: Path) -> None:
    name = "ledger.parquet/part-00000.parquet"
    rewrite(copy, name, add("network_u", 10, 5))
    rewrite(copy, name, add("network_u", 11, -5))
    report = verify_run(copy)
    assert {p.check for p in report.problems} == {"sums"}
    assert "h00, network: billed" in str(report)


def test_a_changed_bill_is_found(copy: Path) -> None:
    rewrite(copy, "bills.parquet/part-00000.parquet", add("total_u", 2, -100))
    text = str(verify_run(copy))
    assert "h02: cost_u is" in text


def test_changed_energy_is_found(copy: Path) -> None:
    rewrite(copy, "slots.parquet/part-00002.parquet", add("exchange_wh", 8, 1))
    rewrite(copy, "buildings.parquet/part-00003.parquet", add("bought_wh", 0, 7))
    text = str(verify_run(copy))
    assert (
        "slots.parquet/part-00002.parquet: slot 200: imports - exports + losses differ from exchange by -1 Wh" in text
    )
    assert "buildings.parquet/part-00003.parquet: slot 288: bought_wh differs from local_wh by 7 Wh" in text


def test_a_trade_off_its_price_is_found(copy: Path) -> None:
    rewrite(copy, "trades.parquet/part-00000.parquet", add("amount_u", 0, 1))
    assert "a trade's amount" in str(verify_run(copy))


def test_a_lost_row_is_found(copy: Path) -> None:
    rewrite(copy, "buildings.parquet/part-00000.parquet", lambda table: table.slice(1))
    text = str(verify_run(copy))
    assert "1799 rows in 4 parts, the manifest says 1800 in 4" in text
    assert "rows are missing or out of order from slot 0" in text


# --- statements -------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags in balance, cells by row."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag != "meta":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"td", "th"}:
            self.rows[-1][-1] += data


def read(statement: Statement) -> Page:
    page = Page()
    page.feed(statement.html)
    assert not page.open
    return page


def test_a_statement_states_the_bill(good: Path) -> None:
    run = Run(good)
    statement = run.statement("h01")
    page = read(statement)
    assert "script" not in page.tags
    bills = run.table("bills")
    bill = bills[bills["building"] == "h01"].iloc[0]
    header, row = page.rows[0], page.rows[1]
    cells = dict(zip(header, row, strict=True))
    names = {"From neighbours": "local_bought_u", "To neighbours": "local_sold_u", "Network": "network_u",
             "VAT": "vat_u", "Total": "total_u", "Without market": "baseline_total_u", "Saved": "saving_u"}  # fmt: skip
    for name, column in names.items():
        assert float(cells[name]) == pytest.approx(bill[column] / 1e6, abs=0.00501)
    assert f"the market saved you {bill['saving_u'] / 1e6:.2f} EUR" in str(statement)
    trades = run.table("trades")
    bought = trades[trades["buyer"] == "h01"]
    delivered = {row[0]: row[1:] for section in statement.sections if section.heading == "Who delivered to you"
                 for row in section.rows}  # fmt: skip
    assert set(delivered) == set(bought["seller"])
    h04 = bought[bought["seller"] == "h04"]
    assert delivered["h04"] == (
        f"{h04['e_wh'].sum() / 1000:,.1f}",
        f"{h04['amount_u'].sum() / 1e6:,.2f}",
        f"{h04['amount_u'].sum() / h04['e_wh'].sum() / 1000:.4f}",
    )
    energy = {row[0]: row for section in statement.sections if section.heading == "Your energy" for row in section.rows}
    assert energy["Bought from the retailer"][3] == "0.3200"
    assert energy["Sold to the retailer"][3] == "0.0800"


def test_a_statement_keeps_to_what_concerns_a_resident(good: Path) -> None:
    run = Run(good)
    home, battery = run.statement("h01"), run.statement("h05")
    assert run.static.remarks == ("Nothing here is real.",)
    for statement in (home, battery):
        assert "Nothing here is real" not in statement.text
        assert "NOTICE.txt" in statement.text
    assert '<td data-head="Total">' in home.html
    assert re.match(r"The community battery made a (profit|loss) of [\d.,]+ EUR against no market", battery.intro[0])
    assert "stands idle" in battery.text and "stands idle" not in home.text


def test_statements_lie_in_the_folder(good: Path) -> None:
    run = Run(good)
    for building in run.static.buildings:
        assert (good / "statements" / f"{building.id}.html").read_text() == run.statement(building.id).html
        assert (good / "statements" / f"{building.id}.txt").read_text() == str(run.statement(building.id))


def test_attribution_is_called_so_and_has_no_prices_per_neighbour(tmp_path: Path) -> None:
    run = Run(make(tmp_path / "pool", pairs=False, bills=False))
    text = str(run.statement("h02"))
    assert "An attribution: the rule has no pairs" in text
    section = next(s for s in run.statement("h02").sections if s.heading == "Who delivered to you")
    assert section.header == ("Neighbour", "Energy [kWh]")
    total = run.table("buildings").groupby("building", observed=True)["bought_wh"].sum()["h02"]
    assert section.total is not None
    assert section.total[1] == f"{total / 1000:,.1f}"
    assert "Charges per day and per peak" in text


def test_many_neighbours_are_summed_in_the_last_row(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def last(most: int) -> str:
        monkeypatch.setattr("peerwatt.results.statements._MOST_NEIGHBOURS", most)
        sections = Run(good).statement("h01").sections
        return next(s for s in sections if s.heading == "Who delivered to you").rows[-1][0]

    n = len(set(Run(good).table("trades").query("buyer == 'h01'")["seller"]))
    assert n > 2
    assert (last(n - 1), last(n - 2)) == ("1 other", "2 others")


def test_names_are_escaped(tmp_path: Path) -> None:
    made_up = MadeUpRun.of(made_up_static(3, 24))
    object.__setattr__(made_up.static, "title", "<b>A & B</b>")
    writer = RunWriter(tmp_path / "run", made_up.static, ("slots",))
    writer.write(made_up.record(0, 24))
    page = Run(writer.finish()).statement("h00").html
    assert "&lt;b&gt;A &amp; B" in page
    assert "<b>" not in page


def test_a_negative_saving_is_said_plainly(tmp_path: Path) -> None:
    made_up = MadeUpRun.of(made_up_static(3, 24))
    made_up.whole.baseline_u[:, 1] -= 10_000_000
    writer = RunWriter(tmp_path / "run", made_up.static, ("slots",))
    writer.write(made_up.record(0, 24))
    run = Run(writer.finish())
    before = made_up.whole.baseline_u[:, 1].sum() / 1e6
    assert f"you would have been credited {-before:.2f} EUR" in str(run.statement("h01"))
    assert "the market cost you" in str(run.statement("h01"))
    assert run.summary["savings"]["negative"] >= 1
    assert np.isfinite(run.summary["money"]["savings"])
