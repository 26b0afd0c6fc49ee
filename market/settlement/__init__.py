"""Settlement (market-rules 4): contracts and meters in, double entries in whole micro-currency and Wh out."""

from market.settlement.bills import BillAccumulator, Bills, BillTerms
from market.settlement.columns import (
    BILL_LINES,
    LEDGER_KINDS,
    SYSTEM_ACCOUNTS,
    Charges,
    Contracts,
    Lines,
    Postings,
)
from market.settlement.contracts import contracts_from_pool, contracts_from_trades
from market.settlement.corrections import DifferenceLines, add_version, difference_lines
from market.settlement.laws import check_laws
from market.settlement.metering import MeterColumns, Quality, metered, slots_per_reading, sum_finer
from market.settlement.periods import Period, PeriodBills, PeriodTerms, SettledRows, bill_period
from market.settlement.residuals import ResidualRule
from market.settlement.settle import no_market_bill_u, no_market_lines, settle_contracts, settle_sharing

__all__ = [
    "BILL_LINES",
    "LEDGER_KINDS",
    "SYSTEM_ACCOUNTS",
    "BillAccumulator",
    "BillTerms",
    "Bills",
    "Charges",
    "Contracts",
    "DifferenceLines",
    "Lines",
    "MeterColumns",
    "Period",
    "PeriodBills",
    "PeriodTerms",
    "Postings",
    "Quality",
    "ResidualRule",
    "SettledRows",
    "add_version",
    "bill_period",
    "check_laws",
    "contracts_from_pool",
    "contracts_from_trades",
    "difference_lines",
    "metered",
    "no_market_bill_u",
    "no_market_lines",
    "settle_contracts",
    "settle_sharing",
    "slots_per_reading",
    "sum_finer",
]
