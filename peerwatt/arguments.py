"""Types of command line arguments that several commands share; each raises ArgumentTypeError in plain words."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_MOST_PORT = 65_535


def positive(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be a positive number")
    return value


def positive_int(text: str) -> int:
    """A whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def port(text: str) -> int:
    """A TCP port; 0 stands for a free one."""
    value = int(text)
    if not 0 <= value <= _MOST_PORT:
        raise argparse.ArgumentTypeError(f"must lie between 0 and {_MOST_PORT}")
    return value


def names(text: str) -> list[str]:
    """``A,B,...``, at least one."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError("names nothing")
    return found


def assignment(text: str) -> tuple[str, str]:
    """``KEY=VALUE`` of the option ``--set``; ArgumentTypeError if it is none."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key.strip(), value.strip()


def overrides(args: argparse.Namespace) -> dict[str, Any]:
    """What ``--days`` and ``--set`` change."""
    laid: dict[str, Any] = {}
    if args.days is not None:
        laid |= {"time.end": None, "time.days": args.days}
    return laid | {key: _value(key, text) for key, text in args.set}


def _value(key: str, text: str) -> Any:
    """A value of ``--set``, read as a scenario file would read it."""
    from core import ScenarioError
    from peerwatt.scenario.source import parse_document

    try:
        document = parse_document(f"value: {text}", file=None, base_dir=Path.cwd())
        if document.problems:
            raise document.problems[0]
    except ScenarioError as error:
        raise ScenarioError(error.message, path=f"--set {key}={text}", remedy=error.remedy) from None
    return document.value["value"]
