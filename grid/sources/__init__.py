"""Where networks come from: one name per network, compiled once and kept in a cache.

``simbench:CODE`` (one grid is shipped, the others need the optional package), ``cigre:lv``, ``cigre:mv``,
``kerber:NAME``, ``pandapower:FILE.json`` or a bare path that ends in ``.json``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from core import GridError, canonical_json, file_sha256, sha256_hex
from grid.network import Network
from grid.sources import cache, published, simbench

REMEDY = "name simbench:CODE, cigre:lv, cigre:mv, kerber:NAME, pandapower:FILE.json or a path that ends in .json"
SOURCE = "source"
"""Key in `Network.memo` of the resolved source."""


@dataclass(frozen=True)
class Source:
    """A resolved network name.

    Attributes
    ----------
    label
        The name as given.
    build
        Returns the pandapower network; imports pandapower.
    content
        What the network depends on: file hash, package versions. Part of the cache's key.
    notices
        Attributions.
    """

    label: str
    build: Callable[[], Any]
    content: dict[str, str]
    notices: tuple[str, ...] = ()


def resolve(label: str, folder: Path | None = None) -> Source:
    """Find what a network name means, without building it.

    Raises
    ------
    GridError
        If there is no such network or file.
    """
    kind, _, rest = label.partition(":")
    if kind == "simbench" and rest:
        return Source(label, *simbench.resolve(rest))
    if kind in {"cigre", "kerber"}:
        return Source(label, *published.resolve(kind, rest))
    if kind == "pandapower" and rest:
        return _file(label, rest, folder)
    if label.endswith(".json"):
        return _file(label, label, folder)
    raise GridError(f"there is no network source {label!r}", remedy=REMEDY)


def _file(label: str, name: str, folder: Path | None) -> Source:
    """Resolve a pandapower JSON file of the user."""
    path = (folder or Path()) / name
    if not path.is_file():
        raise GridError(
            f"there is no network file {name}", element=label, remedy=f"looked for {path}; correct the path"
        )
    sha256 = file_sha256(path)

    def build() -> Any:
        if not path.is_file() or file_sha256(path) != sha256:
            raise GridError("the network file was changed since it was loaded", element=label, remedy="load it again")
        return read_pandapower(path, label)

    return Source(label, build, {"sha256": sha256})


def read_pandapower(path: Path, label: str) -> Any:
    """Read a pandapower network from a JSON file.

    Raises
    ------
    GridError
        If the file is not one.
    """
    import pandapower as pp

    try:
        net = pp.from_json(str(path))
    except (ValueError, KeyError, TypeError, AttributeError, UserWarning, OSError, ImportError) as error:
        raise GridError(
            f"not a pandapower network: {type(error).__name__}: {error}",
            element=label,
            remedy="write the file with pandapower.to_json(net, FILE)",
        ) from error
    if not isinstance(net, pp.pandapowerNet):
        raise GridError("not a pandapower network", element=label, remedy="write it with pandapower.to_json(net, FILE)")
    return net


def load_network(label: str, folder: Path | None = None) -> Network:
    """Load a network from the cache, or build, check, compile and keep it. See `Network.load`."""
    source = resolve(label, folder)
    code = [file_sha256(Path(__file__).parents[1] / name) for name in cache.COMPILED_BY]
    key = sha256_hex(
        canonical_json(
            {
                "format": cache.FORMAT,
                "source": label,
                "content": source.content,
                "code": code,
                "pandapower": version("pandapower"),
                "power-grid-model": version("power-grid-model"),
            }
        )
    )
    network = cache.read_network(key)
    if network is None:
        from grid.compiled import compile_network

        network = compile_network(source.build(), source=label, notices=source.notices)
        cache.write_network(key, network)
    network = replace(network, notices=source.notices)
    network.memo[SOURCE] = source
    return network


def pandapower_original(network: Network) -> Any:
    """Return a fresh pandapower network for a compiled one. See `Network.to_pandapower`."""
    original = network.memo.get("pandapower")
    if original is not None:
        return copy.deepcopy(original)
    source = network.memo.get(SOURCE)
    return (source or resolve(network.source)).build()
