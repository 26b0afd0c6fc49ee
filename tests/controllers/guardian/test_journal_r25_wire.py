"""R25: the frames on the wire, recorded by somebody else, are the lines of the journal; a changed byte is found."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controllers.guardian.journal import GuardianJournal, explain, read, verify
from hardware.driver import Order
from tests.controllers.commissioning.emulated import emulated
from tests.controllers.guardian.rig import Bench, until

_MBAP = 7
_WRITES = {6, 16}
_PCAP_HEADER = 24
_ETHERNET, _LINUX_SLL, _RAW_NULL = 1, 113, 0


def _frames(stream: bytes) -> list[bytes]:
    """Modbus frames of one direction of a connection."""
    frames = []
    while len(stream) > _MBAP:
        length = 6 + int.from_bytes(stream[4:6], "big")
        frames.append(stream[:length])
        stream = stream[length:]
    return frames


def _streams(pcap: bytes) -> dict[tuple[int, int], bytes]:
    """TCP payload by (source port, target port), in the order of sequence numbers; each byte once."""
    link = struct.unpack("<I", pcap[20:24])[0]
    skip = {_ETHERNET: 14, _LINUX_SLL: 16, _RAW_NULL: 4}[link]
    pieces: dict[tuple[int, int], dict[int, bytes]] = {}
    place = _PCAP_HEADER
    while place + 16 <= len(pcap):
        length = struct.unpack("<I", pcap[place + 8 : place + 12])[0]
        ip = pcap[place + 16 + skip : place + 16 + length]
        place += 16 + length
        tcp = ip[(ip[0] & 15) * 4 : int.from_bytes(ip[2:4], "big")]
        ports = (int.from_bytes(tcp[0:2], "big"), int.from_bytes(tcp[2:4], "big"))
        payload = tcp[(tcp[12] >> 4) * 4 :]
        if payload:
            pieces.setdefault(ports, {})[int.from_bytes(tcp[4:8], "big")] = payload
    return {ports: b"".join(parts[at] for at in sorted(parts)) for ports, parts in pieces.items()}


@contextlib.asynccontextmanager
async def _tcpdump(port: int, file: Path) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        "tcpdump", "-i", "lo", "-U", "--immediate-mode", "-s", "0", "-w", str(file), f"tcp port {port}",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    said = b""
    while b"listening on" not in said:
        line = await process.stderr.readline()
        if not line:
            await process.wait()
            pytest.skip(f"tcpdump may not listen here: {said.decode(errors='replace')}")
        said += line
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


needs_tcpdump = pytest.mark.skipif(shutil.which("tcpdump") is None, reason="there is no tcpdump")


def _held_against_the_wire(journal: Path, pcap: Path, port: int) -> list[bytes]:
    """Every write on the wire, request and answer, is a line of the journal, in order; returns the requests."""
    streams = _streams(pcap.read_bytes())
    seen = [f for (_, to), stream in streams.items() if to == port for f in _frames(stream) if f[7] in _WRITES]
    back = [f for (of, _), stream in streams.items() if of == port for f in _frames(stream) if f[7] & 0x7F in _WRITES]
    entries = list(read(journal))
    intents = [entry for entry in entries if entry.kind == "intent"]
    answers = [entry for entry in entries if entry.kind == "response"]
    assert [frame.hex() for frame in seen] == [entry.body["request"] for entry in answers]
    assert [frame.hex() for frame in back] == [entry.body["response"] for entry in answers]
    for frame, intent, answer in zip(seen, intents, answers, strict=True):
        assert answer.body["intent"] == intent.seq < answer.seq, "written down before it left"
        told = (intent.body["unit"], intent.body["function"], intent.body["address"])
        assert (frame[6], frame[7], int.from_bytes(frame[8:10], "big")) == told
        data = frame[10:] if frame[7] == 6 else frame[13:]
        assert [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)] == intent.body["words"]
    return seen


async def _all_recorded(journal: Path, pcap: Path) -> None:
    """Wait until tcpdump has written the last answer that the journal knows."""
    answers = [entry.body["response"] for entry in read(journal) if entry.kind == "response"]
    await until(lambda: bytes.fromhex(answers[-1]) in pcap.read_bytes())


def _flip(journal: Path, frame: bytes) -> None:
    file = next(journal.glob("*.jsonl"))
    content = bytearray(file.read_bytes())
    content[content.index(frame.hex().encode()) + 5] ^= 1
    file.write_bytes(content)


@needs_tcpdump
async def test_r25_frames_of_a_tcpdump_are_the_lines_of_the_journal(tmp_path: Path) -> None:
    moment = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
    ticks = iter(range(10_000))
    journal = await GuardianJournal.open(tmp_path / "j", lambda: moment + timedelta(milliseconds=next(ticks)))
    async with emulated(note=journal.append, storage=True) as one, _tcpdump(one.server.port, tmp_path / "pcap"):
        for value in (3000.0, 2000.0, 1000.0):
            assert (await one.bench.order(Order("limit_w", value, 20), "the operator asked for it")).ok
        assert (await one.bench.order(Order("power_w", -1500.0, 20), "the market sold it")).ok
        fault = one.device.board.switch_on("locked-registers")
        assert not (await one.bench.order(Order("limit_w", 500.0, 20), "refused by the device")).ok
        one.device.board.switch_off(fault)
        assert await one.bench.release_all() == ""
        port = one.server.port
        await _all_recorded(tmp_path / "j", tmp_path / "pcap")
    await journal.close()
    seen = _held_against_the_wire(tmp_path / "j", tmp_path / "pcap", port)
    assert len(seen) > 15
    answers = [entry.body for entry in read(tmp_path / "j") if entry.kind == "response"]
    assert any(answer["response"][14:16] in {"86", "90"} and not answer["ok"] for answer in answers)
    told = str(explain(tmp_path / "j", "device", moment))
    for words in ("limit_w", "because the operator asked for it", seen[0].hex(), "ok=True", "ok=False"):
        assert words in told
    assert verify(tmp_path / "j").ok
    _flip(tmp_path / "j", seen[2])
    assert "was changed" in str(verify(tmp_path / "j"))


@needs_tcpdump
@pytest.mark.slow
async def test_r25_what_a_guardian_sent_and_why_stands_in_its_journal(inverter: Bench, tmp_path: Path) -> None:
    """The same with the real guardian in its own process: lease, refreshes, and the release at its end."""
    port = inverter.servers["inverter"].port
    journal = inverter.site.journal
    async with _tcpdump(port, tmp_path / "pcap"):
        async with inverter.guardian() as running, running.client() as client:
            await running.armed(client)
            answer = await client.lease("inverter", "limit_w", 3000.0, level="operator", owner="dso-7", ttl_s=30.0)
            assert answer.granted
            device = inverter.devices["inverter"]
            await until(lambda: abs(device.power_w + 3000.0) < 150.0)
            await until(lambda: len(inverter.frames["inverter"].writes()) >= 12)
            running.process.send_signal(signal.SIGTERM)
            assert await running.process.wait() == 0
        await _all_recorded(journal, tmp_path / "pcap")
    seen = _held_against_the_wire(journal, tmp_path / "pcap", port)
    assert len(seen) == len(inverter.frames["inverter"].writes()) >= 12
    first = next(entry for entry in read(journal) if entry.kind == "intent")
    told = str(explain(journal, "inverter", first.at.replace(second=0, microsecond=0), length_s=120.0))
    for words in ("dso-7 (operator)", "limit_w 3000", seen[0].hex(), "read_back", "effect"):
        assert words in told, told
    assert verify(journal).ok
    _flip(journal, seen[3])
    assert "was changed" in str(verify(journal))
