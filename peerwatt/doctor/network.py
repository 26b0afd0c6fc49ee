"""Checks of what the service talks over: its port, and the PostgreSQL database."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from typing import Any

from core.errors import JournalError
from peerwatt.doctor.finding import Finding, fail, ok, warn

LOOPBACK = "127.0.0.1"
PATIENCE_S = 5.0
OLDEST_POSTGRESQL = 15


# --- ports ------------------------------------------------------------------------------------------------------------


def version_at(port: int, host: str = LOOPBACK) -> str | None:
    """Version of the peerwatt that answers on a port; None if something else does, or nothing."""
    connection = HTTPConnection(host, port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/api/v1/version")
        answer: Any = json.loads(connection.getresponse().read(10_000))
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
    if not isinstance(answer, dict) or "journal_schema" not in answer:  # another program's version
        return None
    found = answer.get("version")
    return found if isinstance(found, str) else None


def check_port(port: int, host: str = LOOPBACK, running: Callable[[int], str | None] = version_at) -> Finding:
    """Whether the service's port is free, or a peerwatt already answers on it."""
    check = f"port {port}"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason, number = error.strerror, error.errno
        else:
            return ok(check, "free")
    if number == errno.EADDRINUSE:
        version = running(port)
        if version is not None:
            return ok(check, f"peerwatt {version} is running there", running=version)
        return fail(check, "something else listens there", "choose another with --port, or stop what listens there")
    return fail(check, f"cannot be taken: {reason}", "choose another with --port; those below 1024 are reserved")


# --- the database -----------------------------------------------------------------------------------------------------


_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "server_version", "server_version_num")


async def check_database(url: str) -> Finding:
    """Whether PostgreSQL takes us, is new enough, and means its commits."""
    import asyncpg

    from market.journal.postgres_link import Address

    check = "database"
    try:
        address = Address.parse(url)
    except JournalError as error:
        return fail(check, error.message, error.remedy or "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    place = address.place
    try:
        connection = await asyncpg.connect(address.dsn, timeout=PATIENCE_S)
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        return fail(check, f"{place}: refuses our name or password ({error})", "check them in the address")
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        reason = str(error) or type(error).__name__
        return fail(check, f"{place}: cannot be reached ({reason})", "start PostgreSQL, or check the address")
    try:
        settings = {name: str(await connection.fetchval(f"show {name}")) for name in _SETTINGS}
    finally:
        await connection.close()
    return judge_database(place, settings)


def judge_database(place: str, settings: dict[str, str]) -> Finding:
    """What PostgreSQL's settings mean for acknowledged orders."""
    check, version = "database", settings["server_version"].split()[0]
    if int(settings["server_version_num"]) // 10_000 < OLDEST_POSTGRESQL:
        return fail(check, f"{place} is PostgreSQL {version}", f"use {OLDEST_POSTGRESQL} or newer", **settings)
    if settings["fsync"] != "on":
        sentence = f"{place} runs with fsync = off: a loss of power can destroy it"
        return fail(check, sentence, "set fsync = on in postgresql.conf and restart it", **settings)
    if settings["full_page_writes"] != "on":
        sentence = f"{place} runs with full_page_writes = off: a loss of power can tear its pages"
        return fail(check, sentence, "set full_page_writes = on in postgresql.conf", **settings)
    if settings["synchronous_commit"] in ("off", "local"):
        sentence = (
            f"{place} has synchronous_commit = {settings['synchronous_commit']}; the journal turns it on for itself"
        )
        return warn(check, sentence, "set it on for everybody: other programs' commits may be lost", **settings)
    return ok(check, f"PostgreSQL {version}: fsync on, commits wait for the disk", **settings)
