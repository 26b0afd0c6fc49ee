"""Runs a commissioning from the terminal: line, driver, journal, technician, record and report put together."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from controllers.commissioning.bench import Bench, Measure, Session, Settings
from controllers.commissioning.record import Record, RecordStore, StepRecord, may_arm
from controllers.commissioning.runner import Place, Progress, commission
from controllers.commissioning.technician import Answers, Question, Technician
from controllers.guardian.journal import GuardianJournal
from core.errors import DeviceError
from core.quality import Reading
from hardware.driver import Driver, Fallback, Group
from hardware.meeting import SunSpecOptions
from hardware.modbus.line import Line, LineSettings
from peerwatt.clocks import utc_now
from peerwatt.commissioning_reboot import power_cycle
from peerwatt.commissioning_report import write_report
from peerwatt.device_meeting import address_of, meet, open_line

_WORDS = {"passed": "[green]passed[/]", "failed": "[bold red]FAILED[/]", "skipped": "[yellow]left out[/]"}


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; see `peerwatt commission --help`. Times in seconds."""

    address: str
    unit: int = 1
    profile: str = "sunspec"
    answers: Path | None = None
    out: Path = Path("commissioning")
    controls: tuple[str, ...] = ()
    timer_s: int = 20
    effect_max_s: float = 30.0
    poll_s: float = 0.1
    patience: float = 3.0
    minutes: bool = False
    timeout_s: float = 1.0
    meter: str | None = None
    meter_unit: int = 1
    meter_profile: str = "sunspec"
    sunspec: SunSpecOptions = SunSpecOptions()

    def checked(self) -> Options:
        """Themselves; DeviceError (local) if a time makes no sense."""
        times = {"--effect-max": self.effect_max_s, "--poll": self.poll_s, "--timeout": self.timeout_s}
        for name, value in {**times, "--timer": self.timer_s, "--patience": self.patience}.items():
            if not 0.01 <= value <= 3600.0:
                raise DeviceError(f"{name} {value:g} makes no sense: 0.01 to 3600", local=True)
        return self


class Terminal:
    """A technician at the keyboard. Waiting for a line can be interrupted; where input has ended, nobody is there.

    Parameters
    ----------
    console
        Where the questions are shown.
    handle
        Where the answers are typed; standard input by default.
    """

    def __init__(self, console: Console, handle: int = 0) -> None:
        self._console = console
        self._handle = handle
        self._typed = b""

    async def answer(self, question: Question) -> str:
        """See `controllers.commissioning.technician.Technician`."""
        default = f" [{question.default}]" if question.default else ""
        self._console.print(f"{question.text}{default}: ", end="", markup=False)
        return (await self._line() or "").strip() or question.default

    async def act(self, key: str, text: str) -> bool:
        """See `controllers.commissioning.technician.Technician`."""
        self._console.print(f"Please {text}. Press Enter when that is done, or type n if it cannot be: ", end="")
        line = await self._line()
        return line is not None and line.strip().lower() not in {"n", "no"}

    def tell(self, text: str) -> None:
        """See `controllers.commissioning.technician.Technician`."""
        self._console.print(text, markup=False)

    async def _line(self) -> str | None:
        """A line, without a thread that nobody could interrupt; None where input has ended."""
        while b"\n" not in self._typed:
            await self._readable()
            more = os.read(self._handle, 4096)
            if not more:
                return None
            self._typed += more
        line, _, self._typed = self._typed.partition(b"\n")
        return line.decode(errors="replace")

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        try:
            loop.add_reader(self._handle, ready.set)
        except PermissionError:  # an ordinary file always is
            return
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._handle)


def read_answers(file: Path) -> dict[str, object]:
    """The answers in a YAML file; DeviceError (local) if there are none to be read."""
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise DeviceError(f"{file} cannot be read: {error}", local=True, remedy="name a YAML file") from error
    if not isinstance(content, dict):
        raise DeviceError(f"{file} holds no answers", local=True, remedy="write `technician: NAME` and so on")
    return {str(key): value for key, value in content.items()}


async def run_commissioning(
    options: Options, *, technician: Technician | None = None, console: Console | None = None
) -> tuple[Record, list[Path]]:
    """Commission a device; returns the record and the files written.

    Parameters
    ----------
    options
        See `Options`.
    technician
        Who is asked; by default the answers file, or whoever sits at the terminal.
    console
        Where progress is shown; standard error by default.

    Raises
    ------
    DeviceError
        If the device cannot be reached, or a guardian (or anybody else) holds its line.
    """
    screen = console or Console(stderr=True)
    if technician is None:
        technician = Terminal(screen) if options.answers is None else _answers(options.answers, screen)
    async with AsyncExitStack() as stack:
        bench, journal = await _bench(options.checked(), technician, stack)
        if isinstance(technician, Answers) and (action := power_cycle(technician.given, bench)):
            technician.do("power_cycle", action)
        with suppress(NotImplementedError, RuntimeError):  # not the main thread
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        record = await commission(
            bench,
            Place(str(address_of(options.address)), options.unit, options.profile),
            utc_now,
            on_progress=lambda progress: _begins(screen, progress),
            on_step=lambda step: _ended(screen, step),
        )
        file = RecordStore(options.out).save(record)
        await journal.append(
            "step", {"device": options.address, "step": "record", "file": file.name, "digest": record.digest}
        )
    report = file.with_suffix(".html")
    write_report(record, report)
    _judge(screen, record, bench.driver)
    return record, [file, report]


async def _bench(options: Options, technician: Technician, stack: AsyncExitStack) -> tuple[Bench, GuardianJournal]:
    address = address_of(options.address)
    line = await open_line(address, timeout_s=options.timeout_s)
    stack.push_async_callback(line.close)
    driver = await meet(options.profile, lambda span: line.read(options.unit, span), options.sunspec)
    line.gap_s = max(line.gap_s, driver.gap_s)
    journal = await stack.enter_async_context(await GuardianJournal.open(options.out / "journal", utc_now))
    meter = await stack.enter_async_context(_meter(options)) if options.meter else None
    span = next((span for group in Group for span in driver.spans(group)), None)

    async def one_more() -> Session | None:
        other = Line(address, LineSettings(timeout_s=options.timeout_s, locked=False))
        await other.open()
        if span is None or (await other.read(options.unit, span)).words is None:
            await other.close()
            return None
        return Session(other.close)

    settings = Settings(
        timer_s=options.timer_s,
        poll_s=options.poll_s,
        effect_max_s=options.effect_max_s,
        patience=options.patience,
        minutes=options.minutes,
        controls=options.controls,
    )
    bench = Bench(
        driver,
        line,
        options.unit,
        technician,
        settings,
        meter=meter,
        sessions=None if address.serial is not None else one_more,
        note=journal.append,
        device=options.address,
    )
    return bench, journal


@asynccontextmanager
async def _meter(options: Options) -> AsyncIterator[Measure]:
    line = await open_line(address_of(options.meter or ""), timeout_s=options.timeout_s)
    try:
        driver = await meet(options.meter_profile, lambda span: line.read(options.meter_unit, span))

        async def measure() -> Mapping[str, Reading]:
            spans = driver.spans(Group.FAST)
            return driver.decode({span: await line.read(options.meter_unit, span) for span in spans})

        yield measure
    finally:
        await line.close()


def _answers(file: Path, screen: Console) -> Technician:
    try:
        return Answers(read_answers(file), tell=lambda text: screen.print(text, markup=False))
    except ValueError as error:
        raise DeviceError(f"{file}: {error}", local=True) from error


# --- on the screen ----------------------------------------------------------------------------------------------------


def _begins(screen: Console, progress: Progress) -> None:
    left = progress.left_s
    about = f"about {left / 60:.0f} min" if left > 90 else f"about {max(1.0, left):.0f} s"
    screen.print(
        f"[bold]{progress.number}/{progress.count} {progress.stage.name}[/]: {progress.stage.what} ({about} left)"
    )


def _ended(screen: Console, step: StepRecord) -> None:
    screen.print(f"    {_WORDS[step.outcome]} in {step.lasted_s:.1f} s: ", end="")
    screen.print(step.text, markup=False)


def _judge(screen: Console, record: Record, driver: Driver) -> None:
    """Say for each control whether it could be armed, with what it was measured to fall back to as the safe value."""
    for name in record.controls:
        control: Any = driver.controls[name]
        chosen = control.fallback is Fallback.CHOSEN
        arms, reason = may_arm(record, control, control.low if chosen else "released")
        screen.print(f"{'may' if arms else 'may NOT'} be armed: {reason}", markup=False)
