"""Run a scenario: from a name or file to a finished run folder. The command and the notebook both come here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core import RunError
from peerwatt.results.run import Run

if TYPE_CHECKING:
    from market.registry import Rule
    from market.settlement.bills import BillAccumulator
    from peerwatt.cycle import SlotCycle
    from peerwatt.devices.banks import Banks
    from peerwatt.devices.opening import Opener
    from peerwatt.messages import Closed
    from peerwatt.plants import Arrays
    from peerwatt.results.writer import RunWriter
    from peerwatt.scenario import LoadedScenario
    from peerwatt.system import System

Progress = Callable[[int, int], None]
"""Told the slots done and the slots in all."""


def run(
    scenario: str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    rule: str | Rule | type[Rule] | None = None,
    threads: int = 1,
    power_flow: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    report: bool = True,
    progress: Progress | None = None,
    speed: float | None = None,
    guardian: Path | None = None,
) -> Run:
    """Simulate a scenario and write its run folder.

    Parameters
    ----------
    scenario
        Name of a shipped scenario, path of a YAML file, or a mapping.
    out
        The run folder; default ``runs/NAME``.
    overrides
        Values laid over the scenario, by path (``{"time.days": 7, "market.stages[0].rule": "pair_price"}``).
    rule
        Another market rule: a registered name, a Python file, a class or an instance.
    threads
        Threads of the power flow; results do not depend on it.
    power_flow
        ``batch``, ``pandapower`` or ``none`` instead of the scenario's.
    overwrite
        Replace the run that stands in the folder, once the new one is finished.
    resume
        Go on with an interrupted run in the same folder; start it if there is none. A finished run of the same
        scenario, seed, data and software is returned as it is.
    report
        Write ``report.html``.
    progress
        Called with the slots done and the slots in all.
    speed
        Pace the run by the wall clock, that many times faster (context ``shadow``): one slot at a time, with devices
        where a building's ``plant`` wants them (docs/plants.md).
    guardian
        Socket of the guardian that owns the devices which the scenario names; devices in real time, so use speed 1.

    Raises
    ------
    PeerwattError
        With file, place, reason and remedy.
    """
    from grid.sources.cache import cache_folder
    from peerwatt.devices.opening import opened_banks
    from peerwatt.prepare import prepare

    laid = dict(overrides or {})
    if power_flow is not None:
        laid["power_flow"] = power_flow
    loaded = _loaded(scenario, laid, rule)
    other = None if isinstance(rule, str) else rule
    system = prepare(loaded, rule=other, threads=threads, cache_dir=cache_folder())
    folder = Path(out) if out is not None else Path("runs") / loaded.scenario.name
    if resume and (done := _finished(folder, system)) is not None:
        return done
    writer, state = _open(folder, system, overwrite=overwrite, resume=resume)
    try:
        with _guarded(guardian) as opener, opened_banks(system, speed=speed, guardian=opener) as banks:
            session = _Session(system, writer, banks, state, progress)
            session.drive(speed)
    except BaseException as error:
        writer.abandon()
        if isinstance(error, Exception):  # an interruption leaves its folder for --resume
            writer.discard_unless_resumable()
        raise
    return _finish(loaded, writer, session, report=report)


@contextmanager
def _guarded(socket: Path | None) -> Iterator[Opener | None]:
    """The way to a guardian's devices, if there is a guardian."""
    if socket is None:
        yield None
        return
    from peerwatt.devices.guardian_port import guardian_ports

    with guardian_ports(socket, owner="peerwatt run") as opener:
        yield opener


def _loaded(scenario: str | Path | Mapping[str, Any], overrides: dict[str, Any], rule: object) -> LoadedScenario:
    """The scenario with the other rule written into it, so that the resolved scenario says what was run."""
    from peerwatt.low_tech import rule_in_place
    from peerwatt.prepare.market import choose_rule
    from peerwatt.scenario import load_scenario

    loaded = load_scenario(scenario, overrides)
    if not isinstance(rule, str) or rule == loaded.scenario.market.stages[-1].rule:
        return loaded
    name = str(Path(rule).resolve()) if rule.endswith(".py") else rule
    overrides |= rule_in_place(loaded.scenario, name, choose_rule(loaded, rule))
    return load_scenario(scenario, overrides)


def _open(folder: Path, system: System, *, overwrite: bool, resume: bool) -> tuple[RunWriter, Arrays]:
    """A new run folder, or the interrupted one with the state to go on from."""
    from peerwatt.results.writer import RunWriter, interrupted

    if resume and interrupted(folder):
        writer, state, _ = RunWriter.resume(folder)
        if writer.static.run_id != system.static.run_id:
            raise RunError(
                f"{folder} holds an interrupted run of another scenario, seed or data",
                remedy="run into another folder, or use overwrite",
            )
        return writer, state
    return RunWriter(folder, system.static, system.scenario.outputs.tables, overwrite=overwrite), {}


def _finished(folder: Path, system: System) -> Run | None:
    """The finished run of the same id and software that stands in ``folder``, if any."""
    from peerwatt.results.manifest import installed_versions
    from peerwatt.results.writer import interrupted

    if interrupted(folder) or not folder.is_dir() or not any(folder.iterdir()):
        return None
    done = Run(folder)
    same = done.static.run_id == system.static.run_id and done.manifest["versions"] == installed_versions()
    return done if same else None


class _Session:
    """One run: its cycle, what is written, and where it can be taken up again."""

    def __init__(
        self, system: System, writer: RunWriter, banks: Banks, state: Arrays, progress: Progress | None
    ) -> None:
        from market.settlement.bills import BillAccumulator
        from peerwatt.cycle import SlotCycle
        from peerwatt.plants import ModelPlant

        self._system = system
        self._writer = writer
        self._progress = progress
        self._first = writer.next_slot
        self.devices = banks.accounts
        self._plant = ModelPlant(system, banks.batteries, banks.sources)
        self.cycle: SlotCycle = SlotCycle(system, self._plant)
        terms = system.supply.bills
        self.bills: BillAccumulator = BillAccumulator(terms)
        if state:
            self._plant.restore(_below(state, "plant."))
            self.cycle.loss_remainder_wh = state["loss_remainder_wh"]
            self.cycle.origin = self.cycle.origin.restore(_below(state, "origin."))
            self.cycle.standing = self.cycle.standing.restore(_below(state, "standing."))
            self.bills = BillAccumulator.restore(terms, _below(state, "bills."))
            if self.cycle.islanding is not None:
                self.cycle.islanding.restore(_below(state, "outages."))

    def drive(self, speed: float | None) -> None:
        """Run all slots that are missing, in virtual time or paced by the wall clock."""
        import simpy

        from peerwatt.clocks import run_paced, run_virtual
        from peerwatt.simulate import SIMULATION_WINDOW, slot_process

        if self.devices:
            self._warm_up()
        grid = self._system.grid
        env = simpy.Environment(initial_time=self._first * grid.length_s)
        window = SIMULATION_WINDOW if speed is None else 1
        env.process(slot_process(env, self.cycle, self._take, self._first, window))
        until = (grid.n + 1) * grid.length_s
        if speed is None:
            run_virtual(env, until)
        else:
            asyncio.run(run_paced(env, grid.n * grid.length_s + 1, speed))

    def _warm_up(self) -> None:
        """Load what a slot needs (compiled code, the network's factors) before devices wait for it."""
        from core import GridError
        from peerwatt.cycle import SlotCycle
        from peerwatt.messages import Window
        from peerwatt.plants import ModelBatteries, ModelPlant

        if self._first >= self._system.grid.n:
            return
        cycle = SlotCycle(self._system, ModelPlant(self._system, ModelBatteries(self._system)))
        window = Window(self._first, 1)
        with suppress(GridError):  # told when it happens in earnest
            cycle.close(window, cycle.open(window))

    def _take(self, closed: Closed) -> None:
        record = closed.record
        self._writer.write(record)
        self.bills.add(record.first_slot, closed.postings, closed.baseline, record.import_wh, record.export_wh)
        done = record.first_slot + record.n_slots
        if done % self._writer.part_slots == 0 and done < self._system.grid.n and self.cycle.between_blocks:
            self._writer.checkpoint(self._state(), done)
        if self._progress is not None:
            self._progress(done, self._system.grid.n)

    @property
    def outages(self) -> dict[str, Any]:
        """Reliability of supply, once the run is over; empty without outages."""
        return {} if self.cycle.islanding is None else self.cycle.islanding.summary()

    @property
    def plans(self) -> dict[str, Any]:
        """Who was planned ahead, and what was not done of it; empty where nobody was."""
        from peerwatt.planning import plans_summary

        return plans_summary(self._system, self.cycle.standing)

    def _state(self) -> Arrays:
        state = {f"plant.{k}": v for k, v in self._plant.checkpoint().items()}
        state |= {f"bills.{k}": v for k, v in self.bills.state().items()}
        state |= {f"origin.{k}": v for k, v in self.cycle.origin.checkpoint().items()}
        state |= {f"standing.{k}": v for k, v in self.cycle.standing.checkpoint().items()}
        if self.cycle.islanding is not None:
            state |= {f"outages.{k}": v for k, v in self.cycle.islanding.checkpoint().items()}
        return state | {"loss_remainder_wh": self.cycle.loss_remainder_wh}


def _below(arrays: Mapping[str, Any], prefix: str) -> Arrays:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def _finish(loaded: LoadedScenario, writer: RunWriter, session: _Session, *, report: bool) -> Run:
    from peerwatt.devices.account import devices_summary
    from peerwatt.scenario import resolved_yaml

    outputs = loaded.scenario.outputs
    extras: list[Callable[[Path], None]] = []
    if (islanding := session.cycle.islanding) is not None:
        extras.append(islanding.story.write)
    if report and outputs.report:
        from peerwatt.report import write_report

        def add_report(folder: Path) -> None:
            write_report(folder)

        extras.append(add_report)
    folder = writer.finish(
        scenario_text=resolved_yaml(loaded.scenario, relative_to=writer.target),
        bills=session.bills.bills(),
        devices=devices_summary(list(session.devices)),
        blocks={"reliability": session.outages, "plans": session.plans},
        statements=outputs.statements,
        extras=extras,
    )
    return Run(folder)
