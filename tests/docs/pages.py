"""Reads the fenced blocks of a Markdown page and does what they say, in order, in one folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, the file it is to be written to (``file=NAME``), its text."""

    language: str
    file: str | None
    text: str


def blocks_of(page: Path) -> list[Block]:
    """Every fenced block with a language, in the order of the page."""
    found = []
    for language, info, text in FENCE.findall(page.read_text(encoding="utf-8")):
        named = re.search(r"file=(\S+)", info)
        found.append(Block(language, named.group(1) if named else None, text))
    return found


def follow(page: Path, folder: Path) -> list[str]:
    """Write the page's files and run its commands in ``folder``; what each command printed."""
    printed = []
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": here, "COLUMNS": "100"}
    for block in blocks_of(page):
        if block.file is not None:
            (folder / block.file).write_text(block.text, encoding="utf-8")
            continue
        if block.language == "bash":
            command = ["bash", "-euo", "pipefail", "-c", block.text]
        elif block.language == "python":
            command = [sys.executable, "-c", block.text]
        else:
            continue
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block.text}\n--- failed:\n{done.stdout}\n{done.stderr}"
        printed.append(done.stdout)
    return printed
