"""The command itself: started, traded with over HTTP, killed, started again, verified and replayed elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from market.journal.opening import open_journal

PATIENCE_S = 60.0
_LINE = re.compile(r"^(\d{4}-\d\d-\d\d) (\d\d:\d\d)Z  (\w+)")

pytestmark = pytest.mark.slow


class Process:
    """A running `peerwatt serve`; its lines are waited for, not polled."""

    def __init__(self, data: Path, *options: str) -> None:
        command = [sys.executable, "-m", "peerwatt", "serve", "street5", "--data", str(data), "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.seen: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.url = self.line(r"API +(\S+)").group(1)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, pattern: str) -> re.Match[str]:
        """The next line in which ``pattern`` is found."""
        while True:
            line = self._lines.get(timeout=PATIENCE_S)
            assert line is not None, "\n".join(["it ended:", *self.seen])
            self.seen.append(line)
            if (found := re.search(pattern, line)) is not None:
                return found

    def gates(self) -> list[str]:
        """Starts of the slots whose gates were told of so far."""
        return [f"{m[1]}T{m[2]}:00Z" for line in self.seen if (m := _LINE.match(line)) is not None]

    def end(self, how: signal.Signals) -> int:
        """Send a signal and wait for the end; reads what is left of the output."""
        self.process.send_signal(how)
        code = self.process.wait(PATIENCE_S)
        while (line := self._lines.get(timeout=PATIENCE_S)) is not None:
            self.seen.append(line)
        return code


@contextmanager
def serving(data: Path, *options: str) -> Iterator[Process]:
    running = Process(data, *options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def journal(*arguments: str, seed: str = "0") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "peerwatt", "journal", *arguments],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=10)


def test_a_whole_life(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data, "--speed", "3600") as first:
        admin_key = (data / "admin.key").read_text().strip()
        assert (data / "admin.key").stat().st_mode & 0o077 == 0
        with client(first.url, admin_key) as admin:
            made = admin.post("participants/home-3/keys", json={"role": "resident", "label": "test"})
            assert made.status_code == 201, made.text
        with client(first.url, made.json()["key"]) as home:
            assert home.get("readyz").status_code == 200
            slots = home.get("markets/spot/slots", params={"state": "open", "limit": 20}).json()["items"]
            slot = slots[12]["slot"]
            order = {"slot": slot, "side": "buy", "e_wh": 321, "price_u": 250_000, "ref": "mine"}
            entered = home.post("markets/spot/orders", json=order, headers={"Idempotency-Key": "order-1"})
            assert entered.status_code == 201, entered.text
            forbidden = home.get("participants/home-1/statement")
            assert forbidden.status_code in {403, 404}
        first.line(f"^{slot[:10]} {slot[11:16]}Z.*1 from outside")
        first.line(_LINE.pattern)  # one more gate, so that the slot is over and settled
        first.line(_LINE.pattern)
        with client(first.url, made.json()["key"]) as home:
            statement = home.get("participants/home-3/statement", params={"from": slot})
            assert statement.status_code == 200, statement.text
        killed_at = first.gates()
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
        told = first.gates()
    assert len(killed_at) <= len(told)
    assert journal("verify", str(data)).returncode == 0

    with serving(data, "--speed", "3600") as second:
        assert "admin key" not in "\n".join(second.seen), "the key is told once"
        with client(second.url, made.json()["key"]) as home:
            again = home.post("markets/spot/orders", json=order, headers={"Idempotency-Key": "order-1"})
            assert again.json() == entered.json() and again.headers["Idempotent-Replayed"] == "true"
            mine = home.get(f"markets/spot/orders/{entered.json()['order_id']}").json()
            assert mine["slot"] == slot and mine["status"] != "open"
        for _ in range(3):
            second.line(_LINE.pattern)
        assert second.end(signal.SIGTERM) == 0
        gates = [*told, *second.gates()]
        once = list(dict.fromkeys(gates))
        assert len(gates) - len(once) <= 1, "only the gate at the kill may be told of twice"
        assert once == sorted(once)

    verified = journal("verify", str(data))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    replays = [journal("replay", str(data), seed=seed) for seed in ("1", "271828")]
    assert all(r.returncode == 0 for r in replays), replays[0].stdout + replays[0].stderr
    assert replays[0].stdout == replays[1].stdout
    assert "taken as recorded" in replays[0].stdout and ", 0 taken" in replays[0].stdout


def test_a_service_of_some_slots_ends_by_itself(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--speed", "36000", "--duration-slots", "5") as running:
        assert running.process.wait(PATIENCE_S) == 0
        running.line("stopped; go on")
        assert len(running.gates()) == 5
    with serving(tmp_path / "data", "--speed", "36000", "--duration-slots", "2") as running:
        assert running.process.wait(PATIENCE_S) == 0
        running.line("stopped; go on")
        assert len(running.gates()) == 2


def test_after_the_scenarios_end_bills_can_still_be_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    hour = ("--set", "time.days=null", "--set", "time.end=2016-05-25T01:00")
    with serving(data, "--speed", "36000", *hour) as running:
        running.line("the scenario is over")
        with client(running.url, (data / "admin.key").read_text().strip()) as admin:
            statement = admin.get("participants/home-1/statement")
            assert statement.status_code == 200 and len(running.gates()) == 4
            assert len(admin.get("settlements").json()["items"]) == 4
            (bill,) = admin.get("participants/home-1/bills/2016-05").json()["versions"]
            assert (bill["version"], bill["slots"], bill["provisional"]) == (1, 4, False)
            month = admin.get("bills/2016-05").json()
            assert month["members"] == 5 and sum(month["accounts_u"].values()) == 0
        assert running.end(signal.SIGTERM) == 0
    replayed = journal("replay", str(data))
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr

    async def posted() -> list[bytes]:
        records, vault = await open_journal(data, write=False)
        try:
            return [r.draft.body async for r in records.read() if r.draft.kind == "chargesposted"]
        finally:
            await records.close()
            await vault.close()

    (charges,) = [json.loads(body) for body in asyncio.run(posted())]
    assert (charges["period"], charges["version"]) == ("2016-05", 1)
    assert sum(charges["charges_u"]) == sum(month["lines"][line] for line in ("fixed", "demand", "vat"))
