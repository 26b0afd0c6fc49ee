"""A market in a process of its own, made to be killed: commands come in as lines of JSON, replies go out as such.

``python -m tests.crash.worker SPEC`` with a JSON object, see `tests.crash.spec.Spec`. Every request line has an ``id``;
its reply is written, and flushed, after the engine replied, so after the journal said that it is durable. What stands
in the pipe survives the process.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from core.errors import JournalError
from market.engine.commands import (
    AmendOrder,
    CancelOrders,
    Command,
    Done,
    EnterOrders,
    Erase,
    Join,
    Key,
    Measure,
    NewOrder,
    OrderAnswer,
    Reading,
    Refused,
    Resume,
    Suspend,
    VoidSlot,
)
from market.engine.engine import Engine, Limits, Overloaded
from market.journal.opening import open_journal
from market.journal.protocol import Head, Journal, Record, Snapshot
from peerwatt.clocks import EngineClock, utc_now_us
from tests.crash.spec import BROKEN, Spec, config_of, first_us, prices_of


class DyingJournal:
    """A journal that kills its own process at one append, before or after the records are durable."""

    def __init__(self, inner: Journal, die_at: str) -> None:
        self._inner = inner
        kind, when, n = die_at.split(":") if die_at else ("", "", "0")
        self._kind, self._before, self._left = kind, when == "before", int(n)

    @property
    def head(self) -> Head:
        return self._inner.head

    async def append(self, records: Sequence[Record]) -> None:
        dies = bool(self._kind) and any(record.draft.kind == self._kind for record in records)
        self._left -= dies
        dies = dies and self._left == 0
        if dies and self._before:
            _die()
        await self._inner.append(records)
        if dies:
            _die()

    def read(self, after: int = 0, until: int | None = None) -> AsyncIterator[Record]:
        return self._inner.read(after, until)

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        await self._inner.save_snapshot(snapshot)

    async def load_snapshot(self) -> Snapshot | None:
        return await self._inner.load_snapshot()

    async def drop_snapshots(self) -> None:
        await self._inner.drop_snapshots()

    async def close(self) -> None:
        await self._inner.close()


class EarlyJournal(DyingJournal):
    """A journal that promises before it keeps: records reach the disk a little later, in their order."""

    def __init__(self, inner: Journal) -> None:
        super().__init__(inner, "")
        self._head = inner.head
        self._queue: asyncio.Queue[Sequence[Record]] = asyncio.Queue()
        self._writing = asyncio.create_task(self._write())

    @property
    def head(self) -> Head:
        return self._head

    async def append(self, records: Sequence[Record]) -> None:
        if not self._head.seq:
            await self._inner.append(records)
            self._head = self._inner.head
        elif records:
            self._head = Head(records[-1].seq, records[-1].digest)
            self._queue.put_nowait(records)

    async def _write(self) -> None:
        while True:
            records = await self._queue.get()
            await asyncio.sleep(0.05)
            await self._inner.append(records)
            self._queue.task_done()

    async def close(self) -> None:
        await self._queue.join()
        self._writing.cancel()
        await super().close()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()


# --- requests and replies ---------------------------------------------------------------------------------------------


def key_of(text: str, body: dict[str, Any]) -> Key:
    """The key as the service makes it from what a client sends."""
    content = msgspec.json.encode({name: body[name] for name in sorted(body)})
    return Key(hashlib.sha256(text.encode()).digest()[:16], hashlib.sha256(content).digest()[:16])


def command_of(request: dict[str, Any]) -> Command:
    """The engine's command for a request line."""
    body = dict(request["body"])
    key = key_of(request.get("key", ""), body)
    match body.pop("do"):
        case "enter":
            orders = tuple(NewOrder(*row) for row in body["orders"])
            return EnterOrders(body["market"], body["member"], orders, key)
        case "amend":
            return AmendOrder(**body, key=key)
        case "cancel":
            orders = tuple(body.pop("orders")) if "orders" in body else None
            return CancelOrders(**body, orders=orders, key=key)
        case "measure":
            readings = tuple(Reading(*row) for row in body["readings"])
            return Measure(readings, "meters", key, body["member"])
        case "join":
            return Join(body["participant_id"])
        case "erase":
            return Erase(body["member"], "operator")
        case "suspend":
            return Suspend(body["market"], "test", "operator")
        case "resume":
            return Resume(body["market"], "test", "operator")
        case "void":
            return VoidSlot(body["market"], body["slot"], "test", "operator")
        case other:
            raise ValueError(f"unknown request {other!r}")


def _plain(answer: Any) -> Any:
    """An answer as it comes back from JSON."""
    if isinstance(answer, tuple | list):
        return [[a.order, a.code] if isinstance(a, OrderAnswer) else a for a in answer]
    return answer


class Worker:
    """Answers request lines; ends with `BROKEN` when the engine does."""

    def __init__(self, engine: Engine, clock: EngineClock) -> None:
        self._engine = engine
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self.broken = asyncio.Event()

    def say(self, **line: Any) -> None:
        """One line out, at once."""
        head = self._engine.head
        line |= {"now_us": self._clock(), "head": [head.seq, head.digest.hex()]}
        sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
        sys.stdout.buffer.flush()

    async def serve(self) -> None:
        """Read requests until the other side closes, each answered in a task of its own."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=1 << 22)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        self.say(ready=True)
        async for line in reader:
            task = asyncio.create_task(self._answer(msgspec.json.decode(line)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: dict[str, Any]) -> None:
        number = request["id"]
        if request["body"]["do"] == "member":
            self.say(id=number, member=self._engine.member_of(request["body"]["participant_id"]))
            return
        try:
            reply = await self._engine.submit(command_of(request))
        except Overloaded as refusal:
            self.say(id=number, overloaded_s=refusal.retry_after_s)
        except JournalError as error:
            self.say(id=number, broken=str(error))
            self.broken.set()
        else:
            if isinstance(reply, Refused):
                self.say(id=number, refused=reply.code, detail=reply.detail)
            elif isinstance(reply, Done):
                answer = _plain(reply.answer)
                self.say(id=number, done=[reply.seq, reply.at_us, answer], repeated=reply.repeated)


async def _start_us(journal: Journal, spec: Spec) -> int:
    """Engine time at which this life begins."""
    last_us = first_us(spec)
    async for record in journal.read(max(journal.head.seq - 1, 0)):
        last_us = max(last_us, record.draft.at_us)
    if spec.began_wall_us:
        passed_us = (utc_now_us() - spec.began_wall_us) * spec.factor
        return max(last_us, first_us(spec) + passed_us)
    return last_us


async def work(spec: Spec) -> int:
    """One life of the market; the exit code, if it is not killed."""
    journal, vault = await open_journal(spec.store)
    clock = EngineClock(await _start_us(journal, spec), spec.factor * 1_000_000)
    dying = EarlyJournal(journal) if spec.early else DyingJournal(journal, spec.die_at)
    limits = Limits(queue=spec.queue, snapshot_records=spec.snapshot_records)
    engine = await Engine.open(dying, vault, clock, genesis=config_of(spec), prices=prices_of, limits=limits)
    clock.start(clock())
    worker = Worker(engine, clock)
    running = asyncio.create_task(engine.run())
    serving = asyncio.create_task(worker.serve())
    broken = asyncio.create_task(worker.broken.wait())
    await asyncio.wait({running, serving, broken}, return_when=asyncio.FIRST_COMPLETED)
    failure = running.exception() if running.done() and not running.cancelled() else None
    if worker.broken.is_set() or isinstance(failure, JournalError):
        await asyncio.sleep(0.2)  # the other requests get their answers too
        os._exit(BROKEN)
    if failure is not None:
        raise failure
    await engine.stop()
    await running
    await dying.close()
    await vault.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(work(msgspec.json.decode(sys.argv[1].encode(), type=Spec))))
