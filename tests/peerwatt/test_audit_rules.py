"""`peerwatt rules`: what rules declare beside what was measured of them, shipped and of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

import market.rules
from core.errors import RunError
from market.audit import audit
from market.audit.run import QUICK_BOOKS
from market.registry import make_rule, rule_classes
from peerwatt import audit_rules
from peerwatt.audit_command import search_for
from peerwatt.cli import main

SHIPPED_RULES = {
    name: cls for name, cls in rule_classes().items() if cls.__module__.startswith(f"{market.rules.__name__}.")
}
RENEW = "peerwatt rules --audit --json peerwatt/measured_rules.json"


@pytest.fixture(autouse=True)
def _cache_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PEERWATT_CACHE", str(tmp_path / "cache"))


def shipped() -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(audit_rules.SHIPPED.read_text(encoding="utf-8"))["rules"]
    return found


def test_the_shipped_table_is_of_the_rules_as_they_are() -> None:
    found = shipped()
    assert set(found) == set(SHIPPED_RULES), f"run: {RENEW}"
    stale = [name for name, cls in SHIPPED_RULES.items() if found[name]["code"] != audit_rules.code_of(cls)]
    assert not stale, f"these rules were changed after they were measured; run: {RENEW}"


@pytest.mark.parametrize("name", ["uniform_price", "mcafee", pytest.param("bill_sharing", marks=pytest.mark.slow)])
def test_the_shipped_table_is_what_an_audit_gives(name: str) -> None:
    measured_again(name)


@pytest.mark.campaign
@pytest.mark.parametrize("name", sorted({*SHIPPED_RULES} - {"uniform_price", "mcafee", "bill_sharing"}))
def test_and_so_it_is_for_the_slower_rules(name: str) -> None:
    measured_again(name)


def measured_again(name: str) -> None:
    rule = make_rule(name)
    report = audit(rule, books=QUICK_BOOKS, misreports=search_for(rule, quick=True))
    assert not report.failed, [str(v.counterexample) for v in report.verdicts if v.refuted]
    assert not any(f["failed"] for f in report.families.values())
    assert shipped()[name] == audit_rules.entry_of(report, type(rule)), f"run: {RENEW}"


def test_rules_are_listed_with_declared_and_measured_properties(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules"]) == 0
    text = capsys.readouterr().out
    table = text[text.index("declared / measured") :]
    rows = {
        row.split()[0]: row.split()[1:] for row in table.splitlines() if row.split() and row.split()[0] in SHIPPED_RULES
    }
    assert set(rows) == set(SHIPPED_RULES), "no name is cut"
    wide = table[: table.index("One word")]
    assert max(len(line.rstrip()) for line in wide.splitlines()) <= 80
    assert rows["uniform_price"] == ["yes", "yes", "strong", "-/no", "-/no", "yes"]
    assert rows["vcg"][2] == "deficit" and rows["huang"][3:5] == ["yes", "-/no"] and rows["bill_sharing"][1] == "-/no"
    assert "Measured for this version of peerwatt" in text and "with intervals" in text.lower()


def test_ones_own_measurement_counts_for_its_source_only(capsys: pytest.CaptureFixture[str]) -> None:
    entry = {**shipped()["vcg"], "properties": {**dict.fromkeys(audit_rules.PROPERTIES, "fails"), "budget": "weak"}}
    file = audit_rules.cache_file()
    file.parent.mkdir(parents=True)
    for code, row in ((entry["code"], "yes/no ! yes/no ! deficit/weak !"), ("other", "yes yes deficit")):
        file.write_text(json.dumps({"format": 1, "rules": {"vcg": {**entry, "code": code}}}), encoding="utf-8")
        assert main(["rules"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert f" vcg {row} " in text
        assert ("Measured here on 20" in text) == (code != "other")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 9}', '{"format": 1, "rules": {"vcg": {}}}', "\xff"])
def test_a_damaged_cache_counts_for_nothing(content: str) -> None:
    file = audit_rules.cache_file()
    file.parent.mkdir(parents=True)
    file.write_text(content, encoding="latin-1")
    assert not audit_rules.read_measured(file).entries


def test_a_rule_that_nobody_measured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_rules, "SHIPPED", Path("no such file"))
    assert main(["rules"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert " uniform_price yes/? yes/? strong/? -/? -/? ? " in text
    assert "`peerwatt rules --audit` measures them all" in text


@pytest.mark.slow
def test_measuring_fills_the_cache_or_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    few = {name: rule_classes()[name] for name in ("no_market", "vickrey")}
    monkeypatch.setattr("market.registry.rule_classes", lambda: few)
    assert main(["rules", "--audit"]) == 0
    assert "Measured here on 20" in capsys.readouterr().out
    kept = json.loads(audit_rules.cache_file().read_text(encoding="utf-8"))["rules"]
    assert kept == {name: shipped()[name] for name in few}
    out = tmp_path / "measured.json"
    assert main(["rules", "--audit", "--json", str(out)]) == 0
    assert out.read_bytes() == audit_rules.cache_file().read_bytes()
    monkeypatch.setattr("market.audit.run.audit", None)
    assert main(["rules", "--audit", "--json", str(out)]) == 0, "nothing changed, so nothing is measured again"
    assert out.read_bytes() == audit_rules.cache_file().read_bytes()
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("market.registry.rule_classes", dict)
    with pytest.raises(RunError, match="cannot be written"):
        audit_rules.measure_rules(Console(quiet=True), tmp_path / "folder")


@pytest.mark.parametrize(
    ("name", "declared", "measured", "cell"),
    [
        ("ir", True, "holds", "yes"),
        ("ir", True, "fails", "yes/no !"),
        ("ir", False, "holds", "-/yes"),
        ("ir", True, "n.a.", "yes/n.a."),
        ("ir", True, None, "yes/?"),
        ("splitting", False, "fails", "no"),
        ("budget", "weak", "strong", "weak/strong"),
        ("budget", "strong", "weak", "strong/weak !"),
        ("budget", "none", "deficit", "-/deficit"),
        ("budget", "weak", "none", "weak/none !"),
        ("budget", "weak", None, "weak/?"),
    ],
)
def test_cells(name: str, declared: bool | str, measured: str | None, cell: str) -> None:
    assert audit_rules.property_cell(name, declared, measured) == cell
