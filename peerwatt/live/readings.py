"""Meter readings as the journal takes them: from models or from devices, and whether a model stands in for a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from market.engine.commands import Reading
from market.engine.facts import QUALITIES

if TYPE_CHECKING:
    from peerwatt.devices.banks import Banks
    from peerwatt.live.genesis import Roll
    from peerwatt.messages import Meters
    from peerwatt.system import System

MODEL, DEVICE = "model", "device"
"""Names of meters in the journal: of modelled buildings, and of those where a device is measured."""

SUBSTITUTED = QUALITIES.index("substituted")
"""Quality of a reading in which a model stands in for a device that could not be read."""

CORRECTED = QUALITIES.index("corrected")
"""Quality of a reading that also has in it what such slots before it had too little or too much."""


def sourced_readings(
    system: System, roll: Roll, banks: Banks, meters: Meters, slot: int, end_us: int, members: frozenset[int]
) -> dict[str, tuple[Reading, ...]]:
    """Readings of one slot, which ends at ``end_us``, of ``members``, by their source."""
    measured = {account.building for account in banks.accounts}
    substituted = {account.building for account in banks.accounts if account.substituting}
    corrected = {account.building for account in banks.accounts if account.catching_up}
    found: dict[str, list[Reading]] = {}
    for member, b in roll.pairs:
        if member not in members:
            continue
        building = system.building_ids[b]
        quality = SUBSTITUTED if building in substituted else CORRECTED if building in corrected else 0
        wh = int(meters.import_wh[0, b]), int(meters.export_wh[0, b])
        reading = Reading(member, slot, *wh, quality=quality, observed_us=end_us)
        found.setdefault(DEVICE if building in measured else MODEL, []).append(reading)
    return {source: tuple(readings) for source, readings in found.items()}
