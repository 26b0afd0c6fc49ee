"""Checks of the suppliers' mixes: shares sum to 1, contracts exist, names are not those of the district's own."""

from __future__ import annotations

from collections.abc import Mapping

from peerwatt.scenario.models import Scenario
from peerwatt.scenario.problems import Problems, YamlPath, choose

OWN_ORIGINS = ("local_solar",)
"""Origins of energy that is generated in the district; no supplier delivers it."""


def check_origin(scenario: Scenario, problems: Problems) -> None:
    """Collect what is wrong with the mixes of ``scenario.origin``."""
    origin = scenario.origin
    if origin.residual_mix:
        _mix(origin.residual_mix, ("origin", "residual_mix"), problems)
    for contract, mix in origin.supplier_mix.items():
        path = ("origin", "supplier_mix", contract)
        if contract not in scenario.contracts:
            remedy = choose(contract, scenario.contracts, what="contract")
            problems.add(path, f"there is no contract {contract!r}", remedy)
        _mix(mix, path, problems)


def _mix(mix: Mapping[str, float], path: YamlPath, problems: Problems) -> None:
    if sum(round(share * 1_000_000) for share in mix.values()) != 1_000_000:
        text = f"the shares sum to {sum(mix.values()):g}, not to 1"
        problems.add(path, text, "add the rest as `unknown`; shares are kept to six digits")
    for name in mix:
        if name in OWN_ORIGINS:
            problems.add((*path, name), f"{name} is what the district's own PV generates", "e.g. `solar`")
