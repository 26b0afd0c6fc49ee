"""The command ``peerwatt journal``: what can be done with a live market's record without serving it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

FOUND_SOMETHING = 1
_DATA = "data folder of `peerwatt serve`, or postgresql://USER@HOST/DB"

T = TypeVar("T")


def add_journal(commands: Any, add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add ``journal`` with its own commands to the parser's.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    add_command
        Adds one command: (commands, name, summary, handler) -> its parser.
    """
    summary = "Verify, replay, export, back up and restore the record of a live market."
    journal: argparse.ArgumentParser = commands.add_parser("journal", help=summary, description=summary)
    kinds = journal.add_subparsers(dest="journal", metavar="WHAT", title="what to do", required=True)

    check = add_command(kinds, "verify", "Check every digest, the head, unique names and the ledger's sums.", _verify)
    check.add_argument("data", metavar="DATA", help=f"{_DATA}, or journal folder of a guardian")
    check.add_argument(
        "--noted", action="append", default=[], metavar="SEQ:DIGEST", help="a head written down earlier; repeatable"
    )

    told = add_command(
        kinds, "explain", "Who ordered what of a device and why, which bytes went out, what came back.", _explain
    )
    told.add_argument("journal", type=Path, metavar="DIR", help="journal folder of a guardian")
    told.add_argument("--device", metavar="ID", help="the device's id; needed with --at")
    when = told.add_mutually_exclusive_group(required=True)
    when.add_argument("--at", metavar="TIME", help="2026-11-23T08:05, UTC unless it says otherwise")
    when.add_argument("--order", metavar="ID", help="an order as the journal names it: the newest one of that name")
    told.add_argument("--seconds", type=float, default=60.0, metavar="S", help="how long from then (default: 60)")

    replay = add_command(
        kinds, "replay", "Compute every book, price and ledger again and compare with what is recorded.", _replay
    )
    replay.add_argument("data", metavar="DATA", help=_DATA)
    replay.add_argument("--until", type=int, metavar="SEQ", help="stop after this record")

    export = add_command(kinds, "export", "Write the journal as text, one record a line.", _export)
    export.add_argument("data", metavar="DATA", help=f"{_DATA}, or journal folder of a guardian")
    export.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write (JSON lines)")
    export.add_argument("--person", metavar="ID", help="only what is about this person, in clear text")

    backup = add_command(kinds, "backup", "Copy journal, keys and registry, while they may be in use.", _backup)
    backup.add_argument("data", metavar="DATA", help=_DATA)
    backup.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    backup.add_argument("--without-keys", action="store_true", help="leave the vault out: public facts only")

    restore = add_command(kinds, "restore", "Fill a new data folder or database from a backup.", _restore)
    restore.add_argument("backup", type=Path, metavar="DIR", help="folder of `peerwatt journal backup`")
    restore.add_argument("data", metavar="DATA", help=_DATA)

    erased = add_command(kinds, "erase-check", "Look for what an erasure must not leave behind.", _erase_check)
    erased.add_argument("data", metavar="DATA", help=_DATA)
    erased.add_argument(
        "--name", action="append", default=[], metavar="ID", help="an erased id to search for in all files; repeatable"
    )


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _verify(args: argparse.Namespace) -> int:
    if _is_guardian_s(args.data):
        return _verify_guardian(args)
    from peerwatt.live.journal_tools import verify_all

    report, sums = _run(verify_all(args.data, [_head(text) for text in args.noted]))
    _say(str(report))
    if sums is not None:
        _say(str(sums))
    return 0 if report.ok and sums is not None and not sums.wrong else FOUND_SOMETHING


def _is_guardian_s(data: str) -> bool:
    from controllers.guardian.journal import is_journal

    return "://" not in data and is_journal(Path(data))


def _verify_guardian(args: argparse.Namespace) -> int:
    from controllers.guardian.journal import Head, verify
    from core import JournalError

    try:
        noted = [Head.parse(text) for text in args.noted]
    except ValueError:
        raise JournalError("--noted is not SEQ:DIGEST", remedy="as `peerwatt journal verify` prints them") from None
    report = verify(Path(args.data), noted=noted)
    _say(str(report))
    return 0 if report.ok else FOUND_SOMETHING


def _explain(args: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from controllers.guardian.journal import explain, explain_order
    from core import JournalError
    from peerwatt.journal_telling import told

    if args.order is not None:
        _say(told(explain_order(args.journal, args.order)))
        return 0
    if args.device is None:
        raise JournalError("--at needs a device", remedy="name it with --device ID")
    try:
        at = datetime.fromisoformat(args.at)
    except ValueError:
        raise JournalError(f"--at {args.at} is no time", remedy="write it as 2026-11-23T08:05") from None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    _say(told(explain(args.journal, args.device, at, length_s=args.seconds)))
    return 0


def _head(text: str) -> Any:
    from core import JournalError
    from market.journal.protocol import Head

    seq, _, digest = text.partition(":")
    try:
        return Head(int(seq), bytes.fromhex(digest))
    except ValueError:
        raise JournalError(
            f"--noted {text} is not SEQ:DIGEST", remedy="as `peerwatt journal verify` prints them: 17:9f0c..."
        ) from None


def _replay(args: argparse.Namespace) -> int:
    from peerwatt.live.journal_tools import replay

    outcome = _run(replay(args.data, args.until))
    _say(str(outcome))
    return 0 if outcome.ok else FOUND_SOMETHING


def _export(args: argparse.Namespace) -> int:
    if _is_guardian_s(args.data):
        return _export_guardian(args)
    from peerwatt.live.journal_tools import export_all, export_person

    if args.person is not None:
        lines = _run(export_person(args.data, args.out, args.person))
        _say(f"{lines} records about {args.person}: {args.out}")
        return 0
    head = _run(export_all(args.data, args.out))
    _say(f"{head.seq} records, head {head.seq}:{head.digest.hex()}: {args.out}")
    return 0


def _export_guardian(args: argparse.Namespace) -> int:
    from controllers.guardian.journal import export
    from core import JournalError

    if args.person is not None:
        raise JournalError("a guardian's journal is about devices, not persons", remedy="leave --person out")
    written, head, gaps = export(Path(args.data), args.out)
    _say("\n".join([f"{written} lines up to record {head}: {args.out}", *(f"not in it: {gap}" for gap in gaps)]))
    return 0


def _backup(args: argparse.Namespace) -> int:
    from peerwatt.live.journal_tools import backup

    report = _run(backup(args.data, args.out, keys=not args.without_keys))
    _say(f"{report}\nbackup: {args.out}" + ("" if args.without_keys else "; it holds the keys: keep it secret"))
    return 0


def _restore(args: argparse.Namespace) -> int:
    from peerwatt.live.journal_tools import restore

    report, persons = _run(restore(args.backup, args.data))
    _say(f"{report}\nrestored into {args.data}, with the keys of {persons} persons")
    return 0


def _erase_check(args: argparse.Namespace) -> int:
    from peerwatt.live.journal_tools import erase_check

    found = _run(erase_check(args.data, args.name))
    gone = ", ".join(map(str, found.members)) or "none"
    _say(f"erased members: {gone}; {found.unreadable} personal parts of theirs open no more")
    for words in found.left:
        _say(f"LEFT: {words}")
    return FOUND_SOMETHING if found.left else 0
