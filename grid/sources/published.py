"""CIGRE and Kerber networks, built by pandapower's own functions."""

from __future__ import annotations

import random
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from core import GridError

CIGRE = {"lv": "create_cigre_network_lv", "mv": "create_cigre_network_mv"}

KERBER = (
    "dorfnetz",
    "landnetz_freileitung_1",
    "landnetz_freileitung_2",
    "landnetz_kabel_1",
    "landnetz_kabel_2",
    "vorstadtnetz_kabel_1",
    "vorstadtnetz_kabel_2",
)

CIGRE_NOTICE = (
    "CIGRE benchmark network: K. Strunz et al., Benchmark Systems for Network Integration of Renewable and Distributed "
    "Energy Resources, CIGRE Technical Brochure 575, 2014; as implemented in pandapower (BSD 3-Clause)."
)
KERBER_NOTICE = (
    "Kerber network: G. Kerber, Aufnahmefähigkeit von Niederspannungsverteilnetzen für die Einspeisung aus "
    "Photovoltaikkleinanlagen, dissertation, TU München, 2011; as implemented in pandapower (BSD 3-Clause)."
)


def resolve(kind: str, name: str) -> tuple[Callable[[], Any], dict[str, str], tuple[str, ...]]:
    """Builder, content and notices of a network of kind ``cigre`` or ``kerber``.

    Raises
    ------
    GridError
        If there is no such network; lists those there are.
    """
    content = {"pandapower": version("pandapower")}
    if kind == "cigre":
        if name not in CIGRE:
            raise GridError(f"there is no network cigre:{name}", remedy="there are: cigre:lv, cigre:mv")
        return (lambda: _create(CIGRE[name])), content, (CIGRE_NOTICE,)
    plain = name.removeprefix("create_").removeprefix("kerber_").replace("-", "_")
    if plain not in KERBER:
        listed = ", ".join(f"kerber:{known}" for known in KERBER)
        raise GridError(f"there is no network kerber:{name}", remedy=f"there are: {listed}")
    return (lambda: _create(f"create_kerber_{plain}")), content, (KERBER_NOTICE,)


def _create(function: str) -> Any:
    """Call a function of ``pandapower.networks``, always with the same draws.

    The suburban Kerber networks draw line types and branches from Python's global generator. It is set here for the
    call and put back afterwards, so that a name always means the same network.
    """
    import pandapower.networks

    state = random.getstate()
    random.seed(0)
    try:
        return getattr(pandapower.networks, function)()
    finally:
        random.setstate(state)
