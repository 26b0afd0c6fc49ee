"""The guardian beside a live market: joined or started before the market begins, watched, ended after the market.

The order is written in docs/serve.md. At the start: guardian, devices read, market. At the end: market, its leases,
then the guardian, which brings every device to its safe value. A guardian that was started here is a process of its
own, in its own session: it outlives a market that is killed, and the next start joins it. It is never killed from here.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core import DeviceError, Quality, ServiceError
from peerwatt.devices.guardian_link import GuardianLink

if TYPE_CHECKING:
    from peerwatt.live.options import Options

GUARDIAN_LOG = "guardian.log"
"""In the data folder: what a guardian says that was started here."""

WATCH = "peerwatt live: watch"
_ANSWERS_S = 30.0
_READ_S = 15.0
_ENDS_S = 15.0
_LOOK_S = 0.1
_WATCH_S = 1.0
_LAST_LINES = 4

News = Callable[[str], None]


@dataclass(slots=True)
class Guard:
    """The guardian of a live market.

    ``socket`` is where it answers; ``process`` it, if it was started here; ``code`` its exit code once it has ended.
    """

    socket: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def code(self) -> int | None:
        """Of a guardian that was started here and has ended; negative after a signal."""
        return None if self.process is None else self.process.poll()


@asynccontextmanager
async def guarded(options: Options, wanted: frozenset[str], stop: asyncio.Event, news: News) -> AsyncIterator[Guard]:
    """The site's guardian, answering and with the ``wanted`` devices read; ended at the end if it was started here.

    Enter it before everything that uses a device, so that it is left after all of that. If ``stop`` comes while it is
    waited for, it is given as it is.

    Raises
    ------
    ScenarioError, ServiceError
        If its site file is wrong, it cannot start, does not answer, or is another site's.
    """
    guard, link = await _found(options, news)
    watch: asyncio.Task[None] | None = None
    try:
        if options.guardian_awaited:
            await _answers(guard, link, options, stop)
            await has_read(link, wanted, stop)
            await introduced(guard, link, wanted, options, news)
            watch = asyncio.create_task(_watched(guard, link, options, news))
        yield guard
    finally:
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        with suppress(DeviceError):
            await link.close()
        await _ended(guard, news)


async def _found(options: Options, news: News) -> tuple[Guard, GuardianLink]:
    """One that runs, or a new one."""
    if options.guardian_site is None:
        assert options.guardian is not None, "asked for where there is a guardian"
        return Guard(options.guardian), GuardianLink(options.guardian, WATCH)
    from controllers.guardian.settings import load_site

    site = load_site(options.guardian_site)
    link = GuardianLink(site.socket, WATCH)
    try:
        named = (await link.status())["site"]
    except DeviceError:
        return Guard(site.socket, await asyncio.to_thread(_start, options)), GuardianLink(site.socket, WATCH)
    if named != site.name:
        await link.close()
        raise ServiceError(
            f"the guardian at {site.socket} is that of {named!r}, not of {site.name!r}",
            remedy=f"give each site a socket_dir of its own in {options.guardian_site}",
        )
    news(f"joined the guardian of {site.name}, which runs already; it is left alone at the end")
    return Guard(site.socket), link


def _start(options: Options) -> subprocess.Popen[bytes]:
    """A guardian in a session of its own: no signal from the terminal reaches it; what it says goes into a file."""
    command = [sys.executable, "-m", "peerwatt", "guardian", str(options.guardian_site)]
    with (options.data / GUARDIAN_LOG).open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


async def _answers(guard: Guard, link: GuardianLink, options: Options, stop: asyncio.Event) -> None:
    """Wait until it answers.

    Raises
    ------
    ServiceError
        If it ends before, or does not answer in time.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + _ANSWERS_S
    while not stop.is_set():
        try:
            await link.status()
        except DeviceError as error:
            if guard.code is not None:
                raise ServiceError(
                    f"the guardian ended at its start, with code {guard.code}: {_last_words(options)}",
                    remedy=f"run `peerwatt guardian {options.guardian_site}` by itself, and mend what it says",
                ) from error
            if loop.time() > until_s:
                raise ServiceError(f"the guardian does not answer: {error.message}", remedy=error.remedy) from error
            await asyncio.sleep(_LOOK_S)
        else:
            return


def _last_words(options: Options) -> str:
    text = (options.data / GUARDIAN_LOG).read_text(errors="replace")
    return " / ".join(text.strip().splitlines()[-_LAST_LINES:]) or "it said nothing"


async def has_read(link: GuardianLink, wanted: frozenset[str], stop: asyncio.Event, within_s: float = _READ_S) -> None:
    """Wait until the devices that the market measures have been read, and armed where they are from the start.

    Later on the market itself says which are not read.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    while wanted and not stop.is_set() and loop.time() < until_s:
        with suppress(DeviceError):
            found = {str(one["id"]): one for one in await link.devices()}
            there = [found[name] for name in wanted if name in found]
            if all(one["quality"] == Quality.GOOD and not one.get("arming") for one in there):
                return
        await asyncio.sleep(_LOOK_S)


async def introduced(guard: Guard, link: GuardianLink, wanted: frozenset[str], options: Options, news: News) -> None:
    """Say which guardian it is and in which mode its devices are, and how to arm those that the market cannot tell."""
    with suppress(DeviceError):  # of one that is lost already the watch tells
        status, devices = await link.status(), await link.devices()
        modes = {str(one["id"]): str(one["mode"]) for one in devices}  # of the same moment as who is about to be armed
        arming = {str(one["id"]) for one in devices if one.get("arming")}
        how = "joined" if guard.process is None else f"started, process {guard.process.pid}"
        news(f"the guardian of {status['site']} ({how}): {', '.join(f'{name} {mode}' for name, mode in modes.items())}")
        site = options.guardian_site or "SITE.yaml"
        for name in sorted(wanted & modes.keys()):
            if name in arming:
                news(f"{name} has not been seen yet: it is armed as soon as it is, or an alarm says why not")
            elif (mode := modes[name]) != "armed":
                locked = f"`peerwatt guardian {site} clear --who NAME`, then " if mode == "lockout" else ""
                news(
                    f"{name} is in {mode}: set-points do not reach it; arm it with {locked}"
                    f"`peerwatt guardian {site} arm {name} --who NAME`"
                )


async def _watched(guard: Guard, link: GuardianLink, options: Options, news: News) -> None:
    """Say when the guardian stops answering, and when it answers again."""
    answers = True
    while True:
        await asyncio.sleep(_WATCH_S)
        try:
            await link.status()
        except DeviceError as error:
            if answers:
                news(_lost(guard, error, options))
            answers = False
        else:
            if not answers:
                news("the guardian answers again; set-points reach its devices from the next gate on")
            answers = True


def _lost(guard: Guard, error: DeviceError, options: Options) -> str:
    how = f"the guardian has ended, {_exit(guard.code)}" if guard.code is not None else f"the guardian: {error.message}"
    again = options.guardian_site if options.guardian_site is not None else "SITE.yaml"
    return (
        f"GUARDIAN LOST: {how}. Its devices fall back by their own timers; the market goes on, and what cannot be "
        f"measured is substituted. Start it again with `peerwatt guardian {again}`: it is found by itself"
    )


def _exit(code: int) -> str:
    return f"with code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"


async def _ended(guard: Guard, news: News) -> None:
    """Ask a guardian that was started here to end, now that nobody uses it, and wait until it has."""
    process = guard.process
    if process is None or process.poll() is not None:
        return
    process.terminate()
    loop = asyncio.get_running_loop()
    until_s = loop.time() + _ENDS_S
    while process.poll() is None and loop.time() < until_s:  # noqa: ASYNC110 - a process tells nobody
        await asyncio.sleep(_LOOK_S)
    if (code := guard.code) is None:
        news(f"the guardian (process {process.pid}) has not ended after {_ENDS_S:g} s; it is left alone, see its log")
    elif code:
        news(f"NOT ALL SAFE: the guardian ended {_exit(code)}; {GUARDIAN_LOG} in the data folder says which devices")
    else:
        news("the guardian has ended, every device at its safe value")
