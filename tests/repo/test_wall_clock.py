"""The wall clock is read in the clock drivers alone; anywhere else it would break "same inputs, same bytes"."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.repo.files import ROOT, name_of, python_files, tree

CLOCKS = "peerwatt/clocks.py"
FREE = ("tests/", "benchmarks/", "scripts/")

BANNED = {
    *(
        f"time.{name}{suffix}"
        for name in ("time", "monotonic", "perf_counter", "process_time")
        for suffix in ("", "_ns")
    ),
    "time.clock_gettime",
    "time.localtime",
    "time.gmtime",
    "time.ctime",
    "time.strftime",
    "time.sleep",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
    "pandas.Timestamp.now",
    "pandas.Timestamp.utcnow",
    "pandas.Timestamp.today",
    "pandas.to_datetime('now')",
    "numpy.datetime64('now')",
    "numpy.datetime64('today')",
    "os.times",
}


def _imported(module: ast.Module) -> dict[str, str]:
    """What each imported name stands for, wherever in the file it is imported."""
    names: dict[str, str] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                head = alias.name.partition(".")[0]
                names[alias.asname or head] = alias.name if alias.asname else head
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _dotted(node: ast.expr, names: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        head = _dotted(node.value, names)
        return None if head is None else f"{head}.{node.attr}"
    return None


def wall_clock_reads(module: ast.Module) -> list[tuple[int, str]]:
    """Line and name of every read of the wall clock, also where the function is only passed on."""
    names = _imported(module)
    found: list[tuple[int, str]] = []
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute | ast.Name):
            dotted = _dotted(node, names)
            if dotted in BANNED:
                found.append((node.lineno, dotted))
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = f"{_dotted(node.func, names)}({node.args[0].value!r})"
            if called in BANNED:
                found.append((node.lineno, called))
    return found


@pytest.mark.slow
def test_only_the_clock_drivers_read_the_wall_clock() -> None:
    found = [
        f"{name_of(path)}:{line}: {what}"
        for path in python_files()
        if name_of(path) != CLOCKS and not name_of(path).startswith(FREE)
        for line, what in wall_clock_reads(tree(path))
    ]
    assert not found, "read the wall clock through peerwatt.clocks:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.time()",
        "import time as t\nf = t.monotonic_ns",
        "from time import perf_counter as now\nnow()",
        "def f():\n    import datetime\n    return datetime.datetime.now(datetime.UTC)",
        "from datetime import datetime, date\ndatetime.utcnow(); date.today()",
        "import pandas as pd\npd.Timestamp.now()",
        "import numpy as np\nnp.datetime64('now')",
        "from datetime import date\nd = field(default_factory=date.today)",
    ],
)
def test_the_lint_sees(source: str) -> None:
    assert wall_clock_reads(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nnp.datetime64('2016-01-01')",
        "from datetime import datetime\ndatetime.fromisoformat(x)",
        "clock.time()",
        "time = 3\ntime",
    ],
)
def test_the_lint_lets_pass(source: str) -> None:
    assert not wall_clock_reads(ast.parse(source))


def test_the_clock_drivers_are_where_the_lint_thinks() -> None:
    assert wall_clock_reads(tree(Path(ROOT / CLOCKS)))
