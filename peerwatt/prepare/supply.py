"""Supply contracts of a scenario as prices of every slot, and who has which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from core import SlotGrid
from market.tariffs import (
    WEEKDAYS,
    BandSpec,
    TariffSpec,
    TermsSpec,
    clock_minutes,
    resolve_contract,
    tariff_prices_u,
    to_micro,
)
from peerwatt.scenario.models import Building, ContractTerms, Scenario, Tariff
from peerwatt.system import Int, Supply

if TYPE_CHECKING:
    from grid.profiles import ProfileTable


UNNAMED = "other"
"""Supplier of contracts that name none, where others do."""


def supply_columns(
    scenario: Scenario, buildings: tuple[Building, ...], grid: SlotGrid, profiles: ProfileTable
) -> Supply:
    """Prices of every contract that a building has, on the run's slots."""
    from market.settlement.bills import BillTerms

    zone = scenario.time.zone
    used = list(dict.fromkeys(b.contract for b in buildings))
    contracts = tuple(
        resolve_contract(
            [
                terms_spec(terms, f"contracts.{name}.terms[{i}]", profiles)
                for i, terms in enumerate(scenario.contracts[name].terms)
            ],
            grid,
            zone,
        )
        for name in used
    )
    contract_of = np.array([used.index(b.contract) for b in buildings], np.int64)
    settlement = scenario.settlement
    named = [scenario.contracts[name].supplier or UNNAMED for name in used]
    suppliers = supplier_names(scenario, buildings)

    def series(tariff: Tariff | None, path: str) -> Int | None:
        return None if tariff is None else tariff_prices_u(tariff_spec(tariff, path, profiles), grid, zone)

    return Supply(
        contracts=contracts,
        contract_of=contract_of,
        suppliers=suppliers,
        supplier_of=np.array([suppliers.index(named[k]) if suppliers else 0 for k in contract_of], np.int64),
        bills=BillTerms.of(grid, zone, contracts, contract_of.tolist()),
        loss_u=tariff_prices_u(tariff_spec(settlement.loss_price, "settlement.loss_price", profiles), grid, zone),
        imbalance_u=series(settlement.imbalance_price, "settlement.imbalance_price"),
        imbalance_short_u=series(settlement.imbalance_price_short, "settlement.imbalance_price_short"),
    )


def supplier_names(scenario: Scenario, buildings: tuple[Building, ...]) -> tuple[str, ...]:
    """Suppliers under whose contracts buildings are, none where no contract names one."""
    named = [scenario.contracts[name].supplier or UNNAMED for name in dict.fromkeys(b.contract for b in buildings)]
    return tuple(dict.fromkeys(named)) if set(named) != {UNNAMED} else ()


def terms_spec(terms: ContractTerms, path: str, profiles: ProfileTable) -> TermsSpec:
    """Contract terms in the market's own words; ``path`` names the price series that belong to them."""
    network = terms.network
    return TermsSpec(
        retail=tariff_spec(terms.retail, f"{path}.retail", profiles),
        feed_in=tariff_spec(terms.feed_in, f"{path}.feed_in", profiles),
        valid_from=terms.valid_from,
        full_import_per_kwh=network.full_per_kwh,
        local_import_per_kwh=network.local_per_kwh,
        full_export_per_kwh=network.export_per_kwh,
        local_export_per_kwh=network.local_export_per_kwh,
        levies_per_kwh=tuple(terms.levies_per_kwh.items()),
        fixed_per_day=network.fixed_per_day,
        demand_per_kw_month=network.demand_per_kw_month,
        vat_percent=terms.vat_percent,
    )


def tariff_spec(tariff: Tariff, path: str, profiles: ProfileTable) -> TariffSpec:
    """A tariff in the market's own words."""
    if tariff.series is not None:
        return TariffSpec(series_per_kwh=np.array(profiles.column(path)), markup_per_kwh=tariff.markup_per_kwh)
    default = tariff.flat_per_kwh if tariff.flat_per_kwh is not None else tariff.default_per_kwh
    bands = tuple(
        BandSpec(
            price_u=to_micro(band.price_per_kwh),
            start_minute=clock_minutes(band.start),
            end_minute=clock_minutes(band.end),
            weekdays=tuple(WEEKDAYS.index(day) for day in band.days),
            months=band.months,
        )
        for band in tariff.bands
    )
    return TariffSpec(default_u=to_micro(default or 0.0), bands=bands)
