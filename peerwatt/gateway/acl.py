"""Mosquitto's access control: who may say and hear what. What is not allowed here is refused by the broker."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from core.errors import ServiceError
from peerwatt.gateway import topics as t
from peerwatt.gateway.topics import TOPICS, Who
from peerwatt.wire.fields import NAME_PATTERN

_PARTICIPANT = re.compile(NAME_PATTERN)
_ACCOUNT = re.compile("^[!-~]+$")

_HEAD = """\
# Access control for Mosquitto, written by `peerwatt mqtt acl`: say `acl_file` and this file in mosquitto.conf, with
# `allow_anonymous false`, and send the broker SIGHUP after a change. Accounts that are not named here may do nothing.
"""


def acl_text(participants: Iterable[str] | None, operator: str, *, meters: str | None = None) -> str:
    """An ACL file.

    Parameters
    ----------
    participants
        Accounts, each named as its participant. None: every account that the broker knows is one; then nobody but the
        participants, the operator and ``meters`` may have an account.
    operator
        Account of the gateway; also for the operator's own eyes.
    meters
        Account that alone sends meter readings, for all participants; None: each participant sends its own.

    Raises
    ------
    ServiceError
        If a name cannot be a topic's level or an account's name, or stands for two accounts.
    """
    names = [] if participants is None else sorted(set(participants))
    _check(names, operator, meters)
    blocks = [_HEAD, "\n".join(_operator(operator))]
    if meters is not None:
        blocks.append("\n".join(_meters(meters)))
    blocks += ["\n".join([f"user {name}", *_participant("topic", name, own_meters=meters is None)]) for name in names]
    if participants is None:
        lines = _participant("pattern", "%u", own_meters=meters is None)
        blocks.append("\n".join(["# Every account is a participant.", *lines]))
    return "\n\n".join(block.rstrip("\n") for block in blocks) + "\n"


def _check(names: list[str], operator: str, meters: str | None) -> None:
    for name in names:
        if not _PARTICIPANT.fullmatch(name):
            raise ServiceError(
                f"{name!r} is no participant's id",
                remedy="lower-case letters, digits, '.', '_' and '-', as in house-07",
            )
    accounts = [operator, *([] if meters is None else [meters])]
    for name in accounts:
        if not _ACCOUNT.fullmatch(name) or not t.is_topic_name(name):
            raise ServiceError(f"{name!r} is no account's name", remedy="letters, digits and signs other than / + #")
    if len({*names, *accounts}) < len(names) + len(accounts):
        raise ServiceError(
            "one account would be two at once: a participant, the operator or the meters'",
            remedy="give the operator and the meters accounts of their own",
        )


def _operator(name: str) -> Iterator[str]:
    yield f"user {name}"
    yield f"topic readwrite {t.ROOT}/#"
    yield f"topic readwrite {t.HOME_ASSISTANT}/device/+/config"


def _meters(name: str) -> Iterator[str]:
    yield f"user {name}"
    for info in TOPICS:
        if info.writes == Who.METERS:
            yield f"topic write {info.filter()}"
        if info.reads == Who.METERS:
            yield f"topic read {info.filter()}/#"
    yield f"topic read {t.STATUS}"


def _participant(word: str, name: str, *, own_meters: bool) -> Iterator[str]:
    for info in TOPICS:
        read = info.reads in {Who.EVERYBODY, Who.PARTICIPANT} or (own_meters and info.reads == Who.METERS)
        write = info.writes == Who.PARTICIPANT or (own_meters and info.writes == Who.METERS)
        if not (read or write):
            continue
        right = "readwrite" if read and write else "read" if read else "write"
        # Answers may be asked for on a topic below: see the response topic of MQTT 5.
        below = "/#" if info.payload == "Ack" else ""
        yield f"{word} {right} {info.filter(name)}{below}"
    yield f"{word} read {t.discovery_topic(name) if word == 'topic' else _EVERY_DISCOVERY}"


_EVERY_DISCOVERY = f"{t.HOME_ASSISTANT}/device/peerwatt_%u/config"
"""Right for ids without ``.`` and ``_``, which stand differently in Home Assistant's ids."""
