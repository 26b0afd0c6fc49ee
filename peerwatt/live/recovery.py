"""What the plant remembers from slot to slot, kept on the disk, and how a restart finds its way back to it.

The journal is the record of the market; the plant (stored energies, cars on their way, remainders of rounding) is not
in it. A checkpoint is written at each slot's start, after the readings of the slot before are in the journal: so a
checkpoint is never ahead of the journal, and behind it by one slot at most. The models follow from the scenario alone,
so what a checkpoint lacks, or all of it if there is none, is computed again, to the bit.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from peerwatt.results.layout import write_atomic

if TYPE_CHECKING:
    from peerwatt.plants import Arrays

_SLOT, _RUN = "slot", "run"
_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class PlantFile:
    """A file with the plant's state at the start of a slot.

    Parameters
    ----------
    path
        Where it is kept.
    run_id
        Whose plant it is: a file of another scenario is not read.
    """

    path: Path
    run_id: str

    def save(self, slot: int, arrays: Arrays) -> None:
        """Keep the state at the start of ``slot``: the file is the new one or the old one, whatever happens."""
        buffer = io.BytesIO()
        np.savez(buffer, **{f"state.{k}": v for k, v in arrays.items()}, **self._stamp(slot))  # type: ignore[arg-type]
        data = buffer.getvalue()
        write_atomic(self.path, hashlib.sha256(data).digest() + data)

    def load(self) -> tuple[int, Arrays] | None:
        """Slot and state that were saved last; None where there is none of this run, or the file is damaged."""
        try:
            raw = self.path.read_bytes()
        except OSError:
            return None
        data = raw[_DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != raw[:_DIGEST_BYTES]:
            return None
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            if str(file[_RUN]) != self.run_id:
                return None
            arrays = {k.removeprefix("state."): file[k] for k in file.files if k.startswith("state.")}
            return int(file[_SLOT]), arrays

    def _stamp(self, slot: int) -> Arrays:
        return {_SLOT: np.array(slot, np.int64), _RUN: np.array(self.run_id)}
