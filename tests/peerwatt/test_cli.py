"""The command line: quick, honest about errors, faithful in what it hands on. Runs themselves are tested elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core import RunError
from peerwatt import cli
from tests.repo.files import ROOT

HEAVY = {"numpy", "pandas", "pandapower", "pyarrow", "plotly", "numba", "scipy", "pydantic", "rich", "yaml", "simpy"}


def _python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    prefix = f"import sys; sys.path.append({str(ROOT)!r}); "
    return subprocess.run(
        [sys.executable, "-P", "-c", prefix + code], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def _module(monkeypatch: pytest.MonkeyPatch, name: str, **members: object) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(members)
    monkeypatch.setitem(sys.modules, name, module)


class Recorder:
    """Stands for ``run`` or ``compare``: remembers what it was called with."""

    def __init__(self, fails_with: BaseException | None = None) -> None:
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        self._fails_with = fails_with

    def __call__(self, *args: Any, **kwargs: Any) -> types.SimpleNamespace:
        self.args, self.kwargs = args, kwargs
        if self._fails_with is not None:
            raise self._fails_with
        kwargs["progress"](48, 96)
        static = types.SimpleNamespace(options={"doubts": ["a.csv looks like Wh"]})
        return types.SimpleNamespace(summary={"volume_kwh": 12.5}, folder=Path("somewhere"), static=static)


@pytest.fixture
def fake_run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recorder]:
    def install(fails_with: BaseException | None = None) -> Recorder:
        recorder = Recorder(fails_with)
        _module(monkeypatch, "peerwatt.running", run=recorder)
        _module(monkeypatch, "peerwatt.report", summary_table=lambda summary: f"volume {summary['volume_kwh']} kWh")
        return recorder

    return install


@pytest.mark.slow
def test_help_is_quick_and_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "from peerwatt.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print('LOADED', sorted({HEAVY!r} & set(sys.modules)))"
    )
    took_s = []
    for _ in range(3):
        started = time.monotonic()
        done = _python(code, tmp_path)
        took_s.append(time.monotonic() - started)
    assert "run" in done.stdout
    assert done.stdout.rstrip().endswith("LOADED []"), done.stdout + done.stderr
    assert min(took_s) < 0.5


@pytest.mark.slow
def test_a_users_own_grid_py_does_not_stand_in_front_of_ours(tmp_path: Path) -> None:
    for name in ("core", "market", "grid"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    done = subprocess.run(
        [sys.executable, "-m", "peerwatt", "schema"],
        cwd=tmp_path,
        env={"PYTHONPATH": "", "PATH": ""} | _installed_path(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "$defs" in json.loads(done.stdout)


def _installed_path() -> dict[str, str]:
    """Nothing if peerwatt is installed here; the checkout on the path otherwise."""
    code = "import importlib.util as u, sys; sys.exit(u.find_spec('peerwatt') is None)"
    installed = subprocess.run([sys.executable, "-I", "-c", code], check=False).returncode == 0
    return {} if installed else {"PYTHONPATH": str(ROOT)}


def test_run_hands_on_every_option(fake_run: Callable[..., Recorder], capsys: pytest.CaptureFixture[str]) -> None:
    run = fake_run()
    code = cli.main(
        [
            *("run", "semiurban", "--out", "runs/x", "--days", "7", "--set", "network.v_max_pu=1.05"),
            *("--set", "market.stages[0].parameters={k: 0.25}", "--set", "seed=7", "--set", "title='a: b'"),
            *("--rule", "my_rule.py", "--threads", "2", "--power-flow", "pandapower", "--overwrite", "--speed", "1000"),
        ]
    )
    assert code == 0
    assert run.args == ("semiurban", Path("runs/x"))
    handed = dict(run.kwargs)
    del handed["progress"]
    assert handed == {
        "overrides": {
            "time.end": None,
            "time.days": 7,
            "network.v_max_pu": 1.05,
            "market.stages[0].parameters": {"k": 0.25},
            "seed": 7,
            "title": "a: b",
        },
        "rule": "my_rule.py",
        "threads": 2,
        "power_flow": "pandapower",
        "overwrite": True,
        "resume": False,
        "report": True,
        "speed": 1000.0,
        "guardian": None,
    }
    out = capsys.readouterr().out
    assert "volume 12.5 kWh" in out
    assert "somewhere/report.html" in out


def test_run_has_quiet_defaults(fake_run: Callable[..., Recorder], capsys: pytest.CaptureFixture[str]) -> None:
    run = fake_run()
    assert cli.main(["run", "streets/mine.yaml", "--quiet", "--no-report", "--resume"]) == 0
    assert run.args == ("streets/mine.yaml", Path("runs/mine"))
    assert run.kwargs["overrides"] == {}
    assert (run.kwargs["report"], run.kwargs["resume"], run.kwargs["speed"]) == (False, True, None)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "note: a.csv looks like Wh\n", "a doubt about the data is told even quietly"


def test_a_value_that_is_no_yaml_is_told_with_its_key(
    fake_run: Callable[..., Recorder], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_run()
    assert cli.main(["run", "semiurban", "--set", "title=a: b"]) == cli.USER_ERROR
    assert "--set title=a: b" in capsys.readouterr().err


def test_an_error_of_ours_is_told_plainly(
    fake_run: Callable[..., Recorder], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_run(RunError("the folder is not empty", remedy="add --overwrite"))
    assert cli.main(["run", "semiurban"]) == cli.USER_ERROR
    told = capsys.readouterr()
    assert told.err == "error: the folder is not empty\n  what to do: add --overwrite\n"
    assert told.out == ""


@pytest.mark.parametrize("arguments", [["--debug", "run", "semiurban"], ["run", "semiurban", "--debug"]])
def test_debug_shows_the_traceback(fake_run: Callable[..., Recorder], arguments: list[str]) -> None:
    fake_run(RunError("x"))
    with pytest.raises(RunError):
        cli.main(arguments)


def test_a_mistake_of_ours_is_not_hidden(fake_run: Callable[..., Recorder]) -> None:
    fake_run(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "semiurban"])


def test_an_interrupted_run_says_how_to_go_on(
    fake_run: Callable[..., Recorder], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_run(KeyboardInterrupt())
    assert cli.main(["run", "semiurban", "--out", "runs/x"]) == cli.INTERRUPTED
    told = capsys.readouterr().err
    assert "--resume" in told
    assert "runs/x" in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "semiurban", "--days", "0"],
        ["run", "semiurban", "--speed", "-1"],
        ["run", "semiurban", "--speed", "nan"],
        ["run", "semiurban", "--set", "seed"],
        ["run", "semiurban", "--power-flow", "guess"],
        ["compare", "semiurban", "--rules", ","],
        ["dance"],
    ],
)
def test_wrong_usage_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == cli.USER_ERROR
    assert "usage:" in capsys.readouterr().err


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == cli.USER_ERROR
    assert "compare" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("targets", "remedy"), [(["one"], "--rules"), (["a", "b", "--rules", "x"], "leave --rules out")]
)
def test_compare_needs_one_scenario_or_several_runs(
    targets: list[str], remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", *targets]) == cli.USER_ERROR
    assert remedy in capsys.readouterr().err


@pytest.mark.parametrize("targets", [["semiurban", "--rules", "uniform_price, pay_as_bid"], ["runs/a", "runs/b"]])
def test_compare_hands_on_and_shows_the_findings(
    targets: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handed: dict[str, Any] = {}

    def compare(names: list[str], out: Path, **options: Any) -> types.SimpleNamespace:
        handed.update(options, targets=names, out=out)
        run = types.SimpleNamespace(summary={"x": 1})
        return types.SimpleNamespace(
            runs=[run, run], names=["a", "b"], page=out / "comparison.html", sentences=("one arm is idle",)
        )

    _module(monkeypatch, "peerwatt.comparing", compare=compare)
    _module(
        monkeypatch,
        "peerwatt.report",
        comparison_table=lambda summaries, names: f"{len(summaries)} arms: {' and '.join(names)}",
        comparison_findings=lambda _summaries, _names: ["b does not beat [a]"],
        reference_sentences=lambda _summaries, _names: ["b pays 1.00 EUR less"],
    )
    assert cli.main(["compare", *targets, "--days", "3"]) == 0
    with_rules = "--rules" in targets
    assert handed["targets"] == (["semiurban"] if with_rules else targets)
    assert handed["rules"] == (["uniform_price", "pay_as_bid"] if with_rules else None)
    assert handed["overrides"] == {"time.end": None, "time.days": 3}
    assert handed["out"] == Path("runs/comparison")
    out = capsys.readouterr().out
    assert "2 arms: a and b" in out
    assert "- b does not beat [a]" in out
    assert "- b pays 1.00 EUR less" in out
    assert "runs/comparison/comparison.html" in out


def test_schema_is_json_and_init_gives_a_file_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["schema"]) == 0
    assert "$defs" in json.loads(capsys.readouterr().out)

    monkeypatch.chdir(tmp_path)
    assert cli.main(["init", "my-street"]) == 0
    written = (tmp_path / "my-street.yaml").read_text()
    assert "my-street" in written
    (tmp_path / "my-street.yaml").write_text(written + "# mine\n")
    assert cli.main(["init", "my-street"]) == cli.USER_ERROR
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "my-street.yaml").read_text().endswith("# mine\n")


def test_init_into_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "study"
    assert cli.main(["init", str(place / "my.street")]) == cli.USER_ERROR
    told = capsys.readouterr().err
    assert "there is no such folder" in told and f"mkdir -p {place}" in told and "Traceback" not in told
    place.mkdir()
    assert cli.main(["init", str(place / "my.street")]) == 0
    assert [file.name for file in place.iterdir()] == ["my.street.yaml"]
    assert "name: my.street" in (place / "my.street.yaml").read_text()
    for name in (".", "..", "My Street"):
        assert cli.main(["init", name]) == cli.USER_ERROR
        assert "no name of a scenario" in capsys.readouterr().err


def test_rules_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rules"]) == 0
    out = capsys.readouterr().out
    for name in ("no_market", "uniform_price", "mid_market_rate"):
        assert name in out


def test_verify_tells_by_its_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Outcome:
        def __init__(self, ok: bool) -> None:
            self.ok = ok

        def __str__(self) -> str:
            return "all right" if self.ok else "1 problem(s) [slots]"

    for ok, code in ((True, 0), (False, cli.FOUND_SOMETHING)):
        _module(monkeypatch, "peerwatt.results", verify_run=lambda _folder, ok=ok: Outcome(ok))
        assert cli.main(["verify", "runs/x"]) == code
    assert capsys.readouterr().out == "all right\n1 problem(s) [slots]\n"


@pytest.mark.slow
def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    code = "from peerwatt.cli import main; main(['schema'])"
    command = f"{sys.executable} -P -c \"import sys; sys.path.append('{ROOT}'); {code}\" | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "{"
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
