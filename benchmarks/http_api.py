"""Orders over HTTP, each answered when it is durable: peerwatt's API beside the prototype's, in the same run.

Server and load client are processes of their own. Both servers are measured in turn, several times, and the medians
compared: what else runs on the machine meets both.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.http_servers import SLOT_S, START_US
from benchmarks.row import Outcome, Row

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 3
WARM_S, FOR_S = 1.0, 4.0
BATCH = 100
SLOTS = 6
"""Slots that orders are spread over; they are open all the time."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: orders per second, times to an answer, and the server's processor time per order."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


@contextmanager
def _server(kind: str, folder: Path) -> Iterator[tuple[int, int, list[str]]]:
    """A server in a process of its own: its process id, port and keys."""
    folder.mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.http_servers", kind, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        told = json.loads(process.stdout.readline())
        yield process.pid, told["port"], told["keys"]
    finally:
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _cpu_s(pid: int) -> float:
    """Processor time of a process and its threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _order(slot_number: int) -> dict[str, Any]:
    slot = datetime.fromtimestamp(START_US / 1e6, UTC) + timedelta(seconds=slot_number * SLOT_S)
    return {"slot": slot.strftime("%Y-%m-%dT%H:%M:%SZ"), "side": "buy", "e_wh": 500, "price_u": 150_000}


def _load(pid: int, port: int, keys: list[str], connections: int, batch: int, run: int) -> Measured:
    path = "/api/v1/markets/spot/orders" + (":batch" if batch else "")
    bodies = [
        json.dumps({"orders": [_order(1 + i % SLOTS)] * batch} if batch else _order(1 + i % SLOTS))
        for i in range(connections)
    ]
    heads = [
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {keys[i % len(keys)]}\r\nIdempotency-Key: KEY\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(bodies[i])}\r\n\r\n"
        for i in range(connections)
    ]
    job = {
        "host": "127.0.0.1", "port": port, "heads": heads, "bodies": bodies,
        "warm_s": WARM_S, "for_s": FOR_S, "run": run,
    }  # fmt: skip
    before_s = _cpu_s(pid)
    client = [sys.executable, "-m", "benchmarks.http_load"]
    done = subprocess.run(
        client, input=json.dumps(job), stdout=subprocess.PIPE, cwd=ROOT, check=True, text=True, timeout=60
    )
    cpu_s = (_cpu_s(pid) - before_s) * FOR_S / (FOR_S + WARM_S)
    found = json.loads(done.stdout)
    if set(found["statuses"]) != {"200" if batch else "201"}:
        raise RuntimeError(f"not every order was taken: {found['statuses']}")
    orders = found["answers"] * (batch or 1)
    return Measured(orders / FOR_S, found["p50_ms"], found["p99_ms"], cpu_s / orders * 1e6)


def _compared(folder: Path, connections: int, batch: int) -> dict[str, Measured]:
    """Medians of both servers, measured in turn."""
    runs: dict[str, list[Measured]] = {"market": [], "prototype": []}
    with _server("market", folder / "market") as ours, _server("prototype", folder / "prototype") as theirs:
        for number in range(ROUNDS):
            for kind, server in (("market", ours), ("prototype", theirs)):
                runs[kind].append(_load(*server, connections, batch, number))
    return {
        kind: Measured(
            *(statistics.median(getattr(one, name) for one in found) for name in ("rate", "p50_ms", "p99_ms", "cpu_us"))
        )
        for kind, found in runs.items()
    }


def _words(found: dict[str, Measured]) -> str:
    ours, theirs = found["market"], found["prototype"]
    return (
        f"p50 {ours.p50_ms:.1f} ms, p99 {ours.p99_ms:.1f} ms, {ours.cpu_us:.0f} us of the server's CPU per order; "
        f"prototype {theirs.rate:,.0f}/s, p50 {theirs.p50_ms:.1f} ms, p99 {theirs.p99_ms:.1f} ms, "
        f"{theirs.cpu_us:.0f} us; medians of {ROUNDS} runs of {FOR_S:g} s in turn"
    )


def single_orders(folder: Path, connections: int = 32) -> Outcome:
    """Single durable orders, with authentication, rate limit, idempotency and strict headers."""
    found = _compared(folder, connections, 0)
    ratio = found["market"].rate / found["prototype"].rate
    return Outcome(
        f"{found['market'].rate:,.0f}/s, {ratio:.2f} times the prototype's",
        "at least 2 times; 3,000/s with p99 < 25 ms on two quiet cores",
        ratio >= 2,
        f"{connections} connections; {_words(found)}",
    )


def batches(folder: Path) -> Outcome:
    """Orders in batches of 100."""
    found = _compared(folder, 8, BATCH)
    rate = found["market"].rate
    ratio = rate / found["prototype"].rate
    return Outcome(
        f"{rate:,.0f} orders/s, {ratio:.2f} times the prototype's",
        "at least 25,000 orders/s",
        rate >= 25_000,
        f"8 connections; {_words(found)}",
    )


ROWS = (
    Row("durable single orders over HTTP, 32 connections", single_orders),
    Row("durable single orders over HTTP, 64 connections", lambda folder: single_orders(folder, 64)),
    Row("durable orders over HTTP in batches of 100", batches),
)
