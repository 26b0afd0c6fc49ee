"""The guardian's journal held against what passed over the wire, by its documented format alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.independent.devices.tap import WRITES, WireFrame, cut


def records(folder: Path) -> list[dict[str, Any]]:
    """All records, each held to the chain of digests as the documentation says how."""
    digest, found = bytes(32), list[dict[str, Any]]()
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_bytes().splitlines():
            content, _, told = line.rpartition(b',"~":"')
            digest = hashlib.sha256(digest + content).digest()
            assert told == digest.hex().encode() + b'"}', f"{file.name}: {line[:80]!r}"
            found.append(json.loads(line))
    assert [record["seq"] for record in found] == list(range(1, len(found) + 1))
    return found


def written_bytes(found: list[dict[str, Any]]) -> list[bytes]:
    """Every frame that the journal says to have left, as bytes."""
    answers = [record["body"] for record in found if record["kind"] == "response"]
    return [bytes.fromhex(body["request"]) for body in answers if body.get("sent", True)]


def unanswered(found: list[dict[str, Any]]) -> list[tuple[int, int, tuple[int, ...]]]:
    """Intents without a response (a kill came between): function, address, words."""
    answered = {record["body"]["intent"] for record in found if record["kind"] == "response"}
    intents = [record for record in found if record["kind"] == "intent" and record["seq"] not in answered]
    return [(i["body"]["function"], i["body"]["address"], tuple(i["body"]["words"])) for i in intents]


class Tcpdump:
    """Frames to one port, recorded by tcpdump on the loopback."""

    def __init__(self, file: Path, port: int) -> None:
        self.file, self.port = file, port

    def write_frames(self) -> list[bytes]:
        """Bytes of all requests that write, by order of time."""
        found = list[bytes]()
        buffers = dict[tuple[bytes, int], bytearray]()
        for source, port, data in self._segments():
            buffer = buffers.setdefault((source, port), bytearray())
            buffer += data
            found += [frame for frame in cut(buffer) if frame[7] in WRITES]
        return found

    def _segments(self) -> Iterator[tuple[bytes, int, bytes]]:
        """Source address, source port and payload of TCP segments to the port, repeats left out."""
        content = self.file.read_bytes()
        order = "<" if content[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
        at, seen = 24, set[tuple[int, int]]()
        while at + 16 <= len(content):
            kept = struct.unpack_from(order + "I", content, at + 8)[0]
            packet = content[at + 16 : at + 16 + kept]
            at += 16 + kept
            ip = packet[14:]
            if packet[12:14] != b"\x08\x00" or ip[9] != 6:
                continue
            tcp = ip[(ip[0] & 15) * 4 : int.from_bytes(ip[2:4], "big")]
            source, target = struct.unpack_from(">HH", tcp)
            data = tcp[(tcp[12] >> 4) * 4 :]
            number = int.from_bytes(tcp[4:8], "big")
            if target == self.port and data and (source, number) not in seen:
                seen.add((source, number))
                yield ip[12:16], source, data


def last_run(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records since the journal was last opened: transaction numbers begin anew with each process."""
    opened = [i for i, record in enumerate(found) if record["kind"] == "opened"]
    return found[opened[-1] :]


def differences(found: list[dict[str, Any]], seen: list[WireFrame]) -> list[str]:
    """What the journal of one run tells otherwise than the wire: frames missing, too many, in another order."""
    told, loose = written_bytes(found), unanswered(found)
    known, faults = set(told), list[str]()
    for frame in seen:
        if frame.raw not in known:
            intent = (frame.function, frame.address, frame.words)
            if intent in loose:  # killed between frame and response: the intent stands, without the frame's number
                loose.remove(intent)
            else:
                faults.append(f"on the wire, not in the journal: {frame.raw.hex()}")
    raw = [frame.raw for frame in seen]
    faults += [f"in the journal, not on the wire: {frame.hex()}" for frame in told if frame not in set(raw)]
    if [frame for frame in raw if frame in known] != told:
        faults.append("frames in another order, or another number of times, than in the journal")
    return faults


@contextmanager
def tcpdump(file: Path, port: int) -> Iterator[Tcpdump | None]:
    """Record the loopback, or None where this machine does not allow it."""
    if shutil.which("tcpdump") is None:
        yield None
        return
    user = ["-Z", "root"] if os.geteuid() == 0 else []
    command = ["tcpdump", *user, "-i", "lo", "-U", "-n", "-s", "0", "-w", str(file), "tcp", "dst", "port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    ready = any("listening on" in line for line in process.stderr)
    try:
        yield Tcpdump(file, port) if ready else None
    finally:
        time.sleep(0.2)
        process.terminate()
        process.wait()
        process.stderr.close()
