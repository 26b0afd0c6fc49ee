"""``peerwatt doctor``: whether a machine, its disk, its clock and its services will keep a live market's promises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from peerwatt.doctor.broker import check_broker
from peerwatt.doctor.clock import check_steps, check_synchronised
from peerwatt.doctor.disk import check_file_system, check_folder, check_modes, check_space, check_syncs
from peerwatt.doctor.finding import Finding, Status
from peerwatt.doctor.journal import check_journal
from peerwatt.doctor.machine import check_machine, check_open_files, check_packages, check_python, check_time_zones
from peerwatt.doctor.network import check_database, check_port

__all__ = ["Finding", "Status", "examine"]


def examine(
    data: Path,
    *,
    journal: str | None = None,
    mqtt: str | None = None,
    mqtt_password: str | None = None,
    mqtt_ca: Path | None = None,
    port: int = 8000,
) -> list[Finding]:
    """Every check, in the order of the table.

    Parameters
    ----------
    data
        The service's data folder; it need not be there yet.
    journal
        Address of a PostgreSQL journal; None or ``sqlite``: the SQLite journal in ``data``.
    mqtt, mqtt_password, mqtt_ca
        Address of a broker (None: there is none to check), our password, the authority of its certificate.
    port
        Port of the service.
    """
    findings = [*_machine(), *_disk(data), check_port(port)]
    if mqtt is not None:
        findings.append(asyncio.run(check_broker(mqtt, password=mqtt_password, ca=mqtt_ca)))
    if journal is None or journal == "sqlite":
        is_there = check_folder(data).status != Status.FAIL
        return findings + (asyncio.run(check_journal(data)) if is_there else [])
    findings.append(asyncio.run(check_database(journal)))
    if findings[-1].status == Status.FAIL:
        return findings
    return findings + asyncio.run(check_journal(data, journal))


def _machine() -> Iterator[Finding]:
    yield check_python()
    yield check_packages()
    yield check_machine()
    yield check_open_files()
    yield check_time_zones()
    yield check_synchronised()
    yield check_steps()


def _disk(data: Path) -> Iterator[Finding]:
    folder = check_folder(data)
    yield folder
    if folder.status != Status.FAIL:
        yield check_file_system(data)
        yield check_space(data)
        yield check_syncs(data)
        yield check_modes(data)
