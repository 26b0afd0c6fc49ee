"""What was injected: every fault that was felt, in order, so that a test can prove that it was noticed."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from hardware.emulator.faults_kinds import Value


@dataclass(frozen=True, slots=True)
class FaultEntry:
    """One injected fault. ``at_s`` is the time of the board's clock; ``detail`` says what it hit."""

    seq: int
    at_s: float
    kind: str
    unit: int | None
    fault_id: int
    params: Mapping[str, Value]
    detail: Mapping[str, object]

    def as_json(self) -> str:
        """One line of JSON, without the line end."""
        return json.dumps(
            {
                "seq": self.seq,
                "at_s": round(self.at_s, 6),
                "kind": self.kind,
                "unit": self.unit,
                "fault_id": self.fault_id,
                "params": dict(self.params),
                "detail": dict(self.detail),
            },
            default=str,
        )


class FaultLog:
    """Injected faults: the last ``limit`` in memory, all of them as JSON lines in ``sink``, if there is one.

    ``counts`` has the number of each kind since the beginning. One log may serve many boards.
    """

    def __init__(self, *, limit: int = 10_000, sink: TextIO | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self._entries: deque[FaultEntry] = deque(maxlen=limit)
        self._sink = sink
        self._seq = 0

    def add(
        self,
        at_s: float,
        kind: str,
        unit: int | None,
        fault_id: int,
        params: Mapping[str, Value],
        detail: Mapping[str, object],
    ) -> FaultEntry:
        """Write one down and return it. Raises OSError when the sink does."""
        entry = FaultEntry(self._seq, at_s, kind, unit, fault_id, params, detail)
        self._seq += 1
        self.counts[kind] += 1
        self._entries.append(entry)
        if self._sink is not None:
            self._sink.write(entry.as_json() + "\n")
            self._sink.flush()
        return entry

    def entries(self, kind: str | None = None, *, since: int = 0, unit: int | None = None) -> tuple[FaultEntry, ...]:
        """Those kept, oldest first; only ``kind``, of ``unit``, and from number ``since`` where given."""
        return tuple(
            entry
            for entry in self._entries
            if entry.seq >= since and (kind is None or entry.kind == kind) and (unit is None or entry.unit == unit)
        )

    def __len__(self) -> int:
        return self._seq
