"""Older scenario formats into the present one: one step per version, from a table."""

from __future__ import annotations

from collections.abc import Callable

from peerwatt.scenario.problems import Mark, YamlPath
from peerwatt.scenario.source import Document

Step = Callable[[Document], None]


def move(document: Document, old: YamlPath, new: YamlPath) -> None:
    """Move a value to another place, with the lines of everything in it; nothing happens where it does not exist."""
    holder = document.value
    for key in old[:-1]:
        if not isinstance(holder, dict) or key not in holder:
            return
        holder = holder[str(key)]
    if not isinstance(holder, dict) or old[-1] not in holder:
        return
    value = holder.pop(str(old[-1]))
    target = document.value
    for key in new[:-1]:
        target = target.setdefault(str(key), {})
        if not isinstance(target, dict):
            return
    if str(new[-1]) in target:
        document.collector()
        document.problems.append(
            document.collector().error(
                old, f"this key of an older format is now {'.'.join(map(str, new))}, which is given too", "remove one"
            )
        )
        return
    target[str(new[-1])] = value
    moved: dict[YamlPath, Mark] = {}
    for path, mark in document.marks.items():
        if path[: len(old)] == old:
            moved[(*new, *path[len(old) :])] = mark
    document.marks.update(moved)


def _from_0(document: Document) -> None:
    """Format 0 was the draft: the slot length and the zone stood at the top, the rule beside them."""
    move(document, ("slot_length_minutes",), ("time", "slot_minutes"))
    move(document, ("time_zone",), ("time", "zone"))


MIGRATIONS: dict[int, Step] = {0: _from_0}
"""From format n to n + 1."""


def migrate(document: Document, to_format: int) -> None:
    """Bring ``document`` up to ``to_format`` in place; a format that is unknown or newer is collected as a problem."""
    stated = document.value.get("format", to_format)
    if not isinstance(stated, int) or isinstance(stated, bool):
        return  # told by the models
    if stated > to_format:
        document.problems.append(
            document.collector().error(
                ("format",),
                f"format {stated} is newer than this version reads (up to {to_format})",
                "install a newer peerwatt: pip install --upgrade peerwatt",
            )
        )
        document.value["format"] = to_format
        return
    for version in range(stated, to_format):
        step = MIGRATIONS.get(version)
        if step is None:
            document.problems.append(
                document.collector().error(
                    ("format",), f"format {stated} is unknown", f"formats {min(MIGRATIONS)} to {to_format} are read"
                )
            )
            break
        step(document)
    document.value["format"] = to_format
