"""The vocabulary every part shares: errors, slots, the integer lattice, keyed randomness, hashing.

Light on purpose: standard library and numpy only. Imports nothing of ours.
"""

from core.errors import (
    DeviceError,
    GridError,
    JournalError,
    MarketError,
    PeerwattError,
    RunError,
    ScenarioError,
    ServiceError,
)
from core.hashing import canonical_json, chain_digest, file_sha256, sha256_hex
from core.keyed_random import keyed_generator, keyed_hash_u64, slot_uniforms
from core.lattice import largest_remainder, round_half_even
from core.quality import Quality, Reading
from core.slots import SlotGrid

__all__ = [
    "DeviceError",
    "GridError",
    "JournalError",
    "MarketError",
    "PeerwattError",
    "Quality",
    "Reading",
    "RunError",
    "ScenarioError",
    "ServiceError",
    "SlotGrid",
    "canonical_json",
    "chain_digest",
    "file_sha256",
    "keyed_generator",
    "keyed_hash_u64",
    "largest_remainder",
    "round_half_even",
    "sha256_hex",
    "slot_uniforms",
]
