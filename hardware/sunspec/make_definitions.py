"""Makes ``definitions.json`` from the SunSpec Alliance's own model definitions.

Run it as ``python -m hardware.sunspec.make_definitions FOLDER "SOURCE AND VERSION"``, with the folder of the official
``model_*.json`` files (https://github.com/sunspec/models, also shipped inside the Python package pysunspec2). Kept are
the facts that a register is read and written by; descriptions and comments are left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

MODELS = (1, *range(101, 104), *range(111, 114), *range(120, 125), 160, *range(201, 205), *range(211, 215))
MODELS_1547 = (*range(701, 716), 802)
TARGET = Path(__file__).with_name("definitions.json")


def compact_point(point: dict[str, Any]) -> list[Any]:
    """``[name, type, size, flags, scale, units, symbols]``, cut short behind the last fact that is there.

    ``flags`` is a string of w (writable), m (mandatory) and s (static: does not change while the device runs).
    """
    flags = "w" if point.get("access") == "RW" else ""
    flags += "m" if point.get("mandatory") == "M" else ""
    flags += "s" if point.get("static") == "S" else ""
    symbols = {symbol["name"]: symbol["value"] for symbol in point.get("symbols", [])}
    facts = [point["name"], point["type"], point["size"], flags, point.get("sf"), point.get("units", ""), symbols]
    while not facts[-1]:
        facts.pop()
    return facts


def compact_group(group: dict[str, Any]) -> dict[str, Any]:
    """A group's name, how often it repeats, its points and the groups in it (which lie behind its points)."""
    compact: dict[str, Any] = {"name": group["name"]}
    if "count" in group:
        compact["count"] = group["count"]
    if group.get("type") == "sync":
        compact["sync"] = True
    compact["points"] = [compact_point(point) for point in group.get("points", [])]
    if group.get("groups"):
        compact["groups"] = [compact_group(inner) for inner in group["groups"]]
    return compact


def compact_definitions(folder: Path, version: str) -> dict[str, Any]:
    """All of ``definitions.json``."""
    models = {}
    for number in MODELS + MODELS_1547:
        official = json.loads((folder / f"model_{number}.json").read_text(encoding="utf-8"))
        models[str(number)] = {"label": official["group"].get("label", ""), "group": compact_group(official["group"])}
    return {
        "source": "SunSpec Alliance, information model definitions, https://github.com/sunspec/models",
        "licence": "Apache-2.0",
        "version": version,
        "models": models,
    }


def rendered(definitions: dict[str, Any]) -> str:
    """JSON with one model per line, so that a change of one model is one changed line."""
    models = definitions["models"]
    head = json.dumps({key: value for key, value in definitions.items() if key != "models"}, indent=1)[:-2]
    lines = ",\n".join(
        f'  "{number}": {json.dumps(model, separators=(",", ":"), ensure_ascii=False)}'
        for number, model in models.items()
    )
    return f'{head},\n "models": {{\n{lines}\n }}\n}}\n'


def main(arguments: list[str]) -> int:
    """Write ``definitions.json`` beside this file."""
    folder, version = arguments
    TARGET.write_text(rendered(compact_definitions(Path(folder), version)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
