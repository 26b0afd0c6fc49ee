"""Compiled networks on disk: one ``.npz`` file each, without pickle, written atomically, rebuilt if damaged."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import IO, Any, get_type_hints

import numpy as np
from numpy.typing import NDArray

from core import sha256_hex
from grid.network import Network

FORMAT = 1
"""Version of the layout of the cache's files."""

COMPILED_BY = ("compiled.py", "layout.py", "network.py", "network_checks.py")
"""Files of ``grid/`` that a compiled network depends on; their content is part of the cache's key."""


def cache_folder() -> Path:
    """Return the folder for cached files: ``PEERWATT_CACHE``, else ``peerwatt`` in the user's cache folder."""
    named = os.environ.get("PEERWATT_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "peerwatt"


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> bool:
    """Write a file so that it is there whole or not at all. Returns False where the folder cannot be written.

    A cache that cannot be written costs time, not correctness.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
            temporary = Path(file.name)
            write(file)
        temporary.replace(path)
    except OSError:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        return False
    return True


def read_network(key: str) -> Network | None:
    """Read the network cached under ``key``; None if there is none, or the file is damaged."""
    path = cache_folder() / "networks" / f"{key}.npz"
    return unpack_or_none(path) if path.is_file() else None


def unpack_or_none(path: Path) -> Network | None:
    """Read a network from a file of the cache; None if it is damaged."""
    try:
        return unpack_file(path)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def write_network(key: str, network: Network) -> None:
    """Keep a network under ``key``."""
    write_atomically(cache_folder() / "networks" / f"{key}.npz", lambda file: pack_into(file, network))


def pack_into(file: IO[bytes], network: Network) -> None:
    """Write a network: numeric columns as arrays, everything else as JSON, and a SHA-256 over both."""
    arrays: dict[str, NDArray[Any]] = {}
    texts: dict[str, Any] = {}
    _pack(network, "", arrays, texts)
    content = json.dumps({"sha256": content_hash(network), "texts": texts}).encode()
    arrays["json"] = np.frombuffer(content, dtype=np.uint8)
    np.savez(file, allow_pickle=False, **arrays)


def unpack_file(path: Path) -> Network:
    """Read what `pack_into` wrote.

    Raises
    ------
    ValueError
        If the content does not match its hash.
    """
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    stored = json.loads(arrays.pop("json").tobytes())
    network = _unpack(Network, "", arrays, stored["texts"])
    if not isinstance(network, Network) or content_hash(network) != stored["sha256"]:
        raise ValueError("the content does not match its hash")
    return network


def content_hash(network: Network) -> str:
    """SHA-256 over all columns and texts of a network: equal for equal networks, whatever they were loaded from."""
    arrays: dict[str, NDArray[Any]] = {}
    texts: dict[str, Any] = {}
    _pack(network, "", arrays, texts)
    lines = [f"{name} {array.dtype.str} {array.shape} {sha256_hex(array.tobytes())}" for name, array in arrays.items()]
    return sha256_hex("\n".join([*lines, json.dumps(texts, sort_keys=True)]).encode())


def _pack(part: Any, prefix: str, arrays: dict[str, NDArray[Any]], texts: dict[str, Any]) -> None:
    for field in fields(part):
        name, value = prefix + field.name, getattr(part, field.name)
        if field.name == "memo":
            continue
        if is_dataclass(value):
            _pack(value, f"{name}.", arrays, texts)
        elif isinstance(value, np.ndarray):
            arrays[name] = value
        else:
            texts[name] = list(value) if isinstance(value, tuple) else value


def _unpack(kind: Any, prefix: str, arrays: dict[str, NDArray[Any]], texts: dict[str, Any]) -> Any:
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for field in fields(kind):
        name = prefix + field.name
        if field.name == "memo":
            continue
        if is_dataclass(hints[field.name]):
            values[field.name] = _unpack(hints[field.name], f"{name}.", arrays, texts)
        elif name in arrays:
            values[field.name] = arrays[name]
        else:
            value = texts[name]
            values[field.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)
