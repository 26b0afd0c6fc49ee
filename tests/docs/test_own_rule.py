"""The guide to a rule of one's own, followed to the letter, with the numbers that it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import pytest

from market import Order, Side, clear, load_rule_file, registry
from market.testing import check_rule
from tests.docs.pages import FENCE, ROOT

pytestmark = pytest.mark.slow  # the page's own commands, each a process that starts anew

PAGE = ROOT / "docs" / "own-rule.md"


@dataclass
class Followed:
    """What the page's blocks did: (command, exit code, output), and (output, what the page shows of it)."""

    folder: Path
    environment: dict[str, str]
    commands: list[tuple[str, int, str]] = field(default_factory=list)
    shown: list[tuple[str, str]] = field(default_factory=list)


def follow_guide(folder: Path) -> Followed:
    """Write the page's files and run its commands in ``folder``, in order."""
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = Followed(folder, {**os.environ, "PATH": here, "COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1"})
    for language, info, text in FENCE.findall(PAGE.read_text(encoding="utf-8")):
        if (named := re.search(r"file=(\S+)", info)) is not None:
            file = folder / named.group(1)
            before = file.read_text(encoding="utf-8") if file.exists() else ""
            parts = {"prepend": text + before, "append": f"{before}\n{text}"}
            file.write_text(parts.get(info.split()[-1], text), encoding="utf-8")
        elif language == "text":
            done.shown.append((done.commands[-1][2], text))
        elif language in ("bash", "python"):
            start = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-W", "ignore", "-c"]
            ran = subprocess.run(
                [*start, text], cwd=folder, env=done.environment, capture_output=True, text=True, check=False
            )
            wanted = int(named.group(1)) if (named := re.search(r"exit=(\d+)", info)) else 0
            assert ran.returncode == wanted, f"{text}\n--- exit code {ran.returncode}:\n{ran.stdout}\n{ran.stderr}"
            done.commands.append((text, ran.returncode, ran.stdout))
    return done


def draft_of(page: str) -> str:
    """The rule as section 1 has it."""
    return next(str(text) for _, info, text in FENCE.findall(page) if info.strip() == "file=posted_price.py")


def missing_lines(output: str, shown: str) -> list[str]:
    """Lines of ``shown`` that ``output`` does not have in this order."""
    missing, at = [], 0
    lines = [line.rstrip() for line in output.splitlines()]
    for line in filter(str.strip, shown.splitlines()):
        if line.rstrip() in lines[at:]:
            at += lines[at:].index(line.rstrip()) + 1
        else:
            missing.append(line)
    return missing


@pytest.fixture
def _registry_as_it_was() -> Iterator[None]:
    before = registry.rule_classes()  # loads what is shipped
    yield
    registry._rules.clear()
    registry._rules.update(before)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Followed:
    """A folder in which every step of the guide was done."""
    return follow_guide(tmp_path_factory.mktemp("own-rule"))


def test_the_audit_refutes_the_draft_and_not_the_mended_rule(followed: Followed) -> None:
    audits = [(code, output) for text, code, output in followed.commands if "audit posted_price.py --quick" in text]
    assert [code for code, _ in audits[:2]] == [1, 0]
    assert "Smallest book found" in audits[0][1] and "Smallest book found" not in audits[1][1]


def test_every_number_the_page_shows_is_printed(followed: Followed) -> None:
    assert len(followed.shown) > 5
    for output, shown in followed.shown:
        assert not missing_lines(output, shown), output
    (excerpt,) = (
        text for _, _, text in FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8")) if "-> b" in text
    )
    assert not missing_lines(followed.commands[0][2], excerpt.partition("\n")[2]), "the README shows the same"


@pytest.mark.usefixtures("_registry_as_it_was")
def test_the_counterexample_of_the_page_is_one(followed: Followed) -> None:
    """Its book and its report, cleared by the draft, are worth what the page says."""
    page = PAGE.read_text(encoding="utf-8")
    number = r"(\w+) (buys|sells) (\d+) Wh at (\d+)"
    said = re.search(rf"-> (\w+) states '{number}' instead of '({number})': utility (\S+) instead of (\S+)\n", page)
    assert said is not None
    agent, lie, truth, (earned, honest) = said.group(1), said.groups()[1:5], said.group(6), said.groups()[-2:]
    book = {name: (way, wh, at) for name, way, wh, at in re.findall(rf"^  {number}$", page, re.MULTILINE)}
    assert f"{agent} {' '.join(book[agent][:2])} Wh at {book[agent][2]}" == truth
    (followed.folder / "draft.py").write_text(draft_of(page).replace('"posted_price"', '"draft"'), encoding="utf-8")
    for stated, worth in ((book[agent], honest), (lie[1:], earned)):
        sides = {"buys": Side.BUY, "sells": Side.SELL}
        orders = [
            Order(order_id=name, agent_id=name, side=sides[way], e_wh=int(wh), price_u=int(at))
            for name, (way, wh, at) in {**book, agent: stated}.items()
        ]
        result = clear(load_rule_file(followed.folder / "draft.py")[0], orders)
        needed = min(result.fills.get(agent, 0), int(book[agent][1]))
        assert int(sides[book[agent][0]]) * needed * Fraction(book[agent][2]) / 1000 - result.payments[
            agent
        ] == Fraction(worth)


def test_the_figures_of_the_python_blocks_are_there(followed: Followed) -> None:
    lots, files = (
        output for text, _, output in followed.commands if text.startswith(("from dataclasses", "import json"))
    )
    assert lots.startswith("[{'o"), "who is first changes with the slot"
    drawn = lots.splitlines()[0]
    assert "'o1': 2000" in drawn and "'o2': 2000" in drawn
    assert "posted_by_lot | holds on 8 books | not declared, holds on 8 books" in lots
    assert "truthful_quantity | True | holds on" in files
    assert (followed.folder / "audit.html").stat().st_size > 50_000


def test_columns_give_the_ledger_of_single_slots(followed: Followed) -> None:
    runs = followed.folder / "runs"
    ledgers = [sorted((runs / name / "ledger.parquet").iterdir()) for name in ("slot-by-slot", "columns")]
    assert [f.read_bytes() for f in ledgers[0]] == [f.read_bytes() for f in ledgers[1]]
    assert "traded" in next(out for text, _, out in followed.commands if "slot-by-slot" in text)
    assert (runs / "compare" / "comparison.html").is_file()


@pytest.mark.usefixtures("_registry_as_it_was")
def test_the_kit_refuses_the_draft_and_a_wrong_clear_batch(followed: Followed, tmp_path: Path) -> None:
    mended = (followed.folder / "posted_price.py").read_text(encoding="utf-8")
    wrong = mended.replace("volume[:, None] - ahead", "volume[:, None] + ahead")
    assert wrong != mended
    (kit,) = re.findall(r"check_rule\(rule, price_u=(\d+)\)", (followed.folder / "test_posted_price.py").read_text())
    faults = {"truthful quantity: ": draft_of(PAGE.read_text(encoding="utf-8")), "clear == clear_batch: slot ": wrong}
    for words, rule in faults.items():
        (tmp_path / "posted_price.py").write_text(rule, encoding="utf-8")
        with pytest.raises(AssertionError, match=f"^{words}"):
            check_rule(load_rule_file(tmp_path / "posted_price.py")[0], price_u=int(kit))


def test_an_installed_package_makes_the_rule_known(followed: Followed, tmp_path: Path) -> None:
    for name in ("posted_price.py", "pyproject.toml"):
        (tmp_path / name).write_bytes((followed.folder / name).read_bytes())
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", "site", "."]
    for arguments in (install, ["-c", "from market import rules; print([r.name for r in rules()])"]):
        environment = {**followed.environment, "PYTHONPATH": str(tmp_path / "site")}
        ran = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
    assert "'posted_price'" in ran.stdout
