"""Which files the lints read, each parsed once."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("core", "market", "grid", "controllers", "hardware", "peerwatt")

_SKIPPED = {"__pycache__", "node_modules", "runs", "build", "dist", "static"}
_TEXT = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
    ".json",
    ".cff",
    ".lock",
    ".css",
    ".js",
    ".ts",
    ".html",
    ".cfg",
}
_MOST_BYTES = 2_000_000


def walk(folder: Path) -> Iterator[Path]:
    """Files below ``folder`` in a fixed order, leaving out hidden folders, caches and what was built."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name not in _SKIPPED and not path.name.startswith(".") and not path.name.endswith(".egg-info"):
                yield from walk(path)
        else:
            yield path


@cache
def package_files() -> tuple[Path, ...]:
    """Python files of the packages that are shipped."""
    return tuple(p for name in PACKAGES if (ROOT / name).is_dir() for p in walk(ROOT / name) if p.suffix == ".py")


@cache
def python_files() -> tuple[Path, ...]:
    """Every Python file of the repository."""
    return tuple(path for path in walk(ROOT) if path.suffix == ".py")


@cache
def text_files() -> tuple[Path, ...]:
    """Every text file that a person wrote, and the lock."""
    plain = [p for p in walk(ROOT) if p.suffix in _TEXT or p.name in ("Makefile", "NOTICE", ".gitignore")]
    hidden = [ROOT / ".ci" / "run", ROOT / ".importlinter"]
    return tuple(p for p in [*plain, *hidden] if p.is_file() and p.stat().st_size < _MOST_BYTES)


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a Python file. It stays, so the collector of garbage is kept from a million of nodes."""
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"), str(path))
    finally:
        gc.freeze()
        gc.enable()


def name_of(path: Path) -> str:
    """Path inside the repository, with slashes."""
    return path.relative_to(ROOT).as_posix()
