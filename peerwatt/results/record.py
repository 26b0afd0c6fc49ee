"""What one window of slots leaves behind: the only thing the results know of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]
Float = NDArray[np.float64]

SYSTEM_ACCOUNTS = ("retailer", "operator", "network", "state")
"""Accounts beside the members', in this order behind them. Members come first, in building order."""

LEDGER_KINDS = ("contract", "residual", "network", "levies", "losses")
"""Kinds of posting in a slot. Each sums to zero over all accounts in every slot."""


CERTIFICATE_ROWS = ("opened", "made", "supplied", "consumed", "exported", "lost", "held", "passed")
"""What becomes of certificates in a slot; see the table ``certificates``."""

HEAT_COLUMNS = ("electric_wh", "cop", "outdoor_c", "indoor_c", "low_c", "high_c")
"""What is told of a heated building in a slot; see the table ``heat``."""

CURTAILMENT_REASONS = ("export_limit", "voltage", "rating")
"""Why PV was curtailed: the building's export limit, the inverter's volt-watt function, or its rating."""

ENVELOPE_COLUMNS = (
    "import_limit_wh", "export_limit_wh", "import_by", "export_by", "envelope_wh", "own_limit_wh", "battery_wh",
    "ev_wh", "heat_pump_wh", "unfed_wh", "import_excess_wh", "export_excess_wh",
)  # fmt: skip
"""What is told of a building with limits in a slot; see the table ``envelopes``. Limits and reasons: -1 = none."""

ISLAND_COLUMNS = ("island_wh", "import_island_wh", "export_island_wh")
"""What is told of it besides, in runs with outages; see the table ``islands``."""

ORIGIN_WAYS = ("own", "battery", "neighbours")
"""Ways by which consumption was met; the supplier did the rest."""


@dataclass(frozen=True, slots=True)
class TradeColumns:
    """Trades of a window, one row each, ordered by slot.

    ``buyer`` and ``seller`` are building indices; -1 stands for the pool of a rule without pairs.
    ``price_num / price_den`` is the exact price [micro-currency per kWh], ``amount_u`` the booked amount.
    """

    slot: Int
    buyer: Int
    seller: Int
    e_wh: Int
    price_num: Int
    price_den: Int
    amount_u: Int
    deal: Int = field(default_factory=lambda: np.zeros(0, np.int64))  # position in RunStatic.deals; default: the first

    def __post_init__(self) -> None:
        if len(self.deal) != len(self.slot):
            object.__setattr__(self, "deal", np.zeros_like(self.slot))


@dataclass(frozen=True, slots=True)
class WindowRecord:
    """Columns of slots ``first_slot .. first_slot + n_slots - 1``.

    Shapes: S = n_slots, B = buildings, A = B + len(SYSTEM_ACCOUNTS) accounts, N = buses, R = branches (lines, then
    transformers). Energies are integer Wh per slot and never negative unless said otherwise.
    """

    first_slot: int
    n_slots: int
    load_wh: Int  # (S, B)
    heat_pump_wh: Int  # (S, B)
    ev_wh: Int  # (S, B)
    pv_wh: Int  # (S, B) after curtailment
    curtailed_wh: Int  # (S, B)
    charge_wh: Int  # (S, B) at the AC terminals
    discharge_wh: Int  # (S, B)
    soc_wh: Int  # (S, B) stored energy at the slot's start
    import_wh: Int  # (S, B) as metered; import - export = net, positive draws
    export_wh: Int  # (S, B)
    active: NDArray[np.bool_]  # (S, B) takes part in the market
    price_num: Int  # (S,) exact price of rules with one price [micro-currency per kWh] as num / den
    price_den: Int  # (S,)
    has_price: NDArray[np.bool_]  # (S,)
    bought_wh: Int  # (S, B) local energy bought (contract, or local share of a meter-based rule)
    sold_wh: Int  # (S, B)
    trades: TradeColumns
    postings_u: dict[str, Int]  # kind -> (S, A); an account grows by what it receives
    baseline_u: Int  # (S, B) what the building would have paid without a market, same meters; + pays
    loss_wh: Int  # (S,)
    exchange_wh: Int  # (S,) through the connection point = sum of net + loss; + draws from the grid above
    v_pu: Float | None  # (S, N)
    branch_loading: Float | None  # (S, R) 1.0 = rated
    branch_p_kw: Float | None  # (S, R) at the from / high-voltage side, + flows into the branch
    losses_kw: Float | None  # (S,)
    slack_p_kw: Float | None  # (S,) + draws from the grid above
    carbon_kg_per_kwh: Float | None  # (S,) of grid supply
    undelivered_wh: Int  # (S, B) energy an EV lacked, booked at its departure slot
    origin_wh: Int | None = None  # (S, B, O) consumption by origin; None: origins are not followed
    origin_ways_wh: Int | None = None  # (S, B, 3) of it from own generation, own battery, neighbours
    standing_wh: Int | None = None  # (S, C) delivered under each standing contract, within bought_wh and sold_wh
    standing_u: Int | None = None  # (S, C) what its buyer paid its seller, within postings_u; None: there are none
    supplier_sold_wh: Int | None = None  # (S, K) of each named supplier; None: none is named
    supplier_bought_wh: Int | None = None  # (S, K)
    supplier_u: Int | None = None  # (S, K + 1) of the retailer's account; the last column is no one supplier's
    certificates_wh: Int | None = None  # (S, 8, O) the district's certificates, rows as CERTIFICATE_ROWS
    contract_bought_wh: Int | None = None  # (S, B) all contracts, the retailer's in the book and what was sold on too
    contract_sold_wh: Int | None = None  # (S, B); None: they are bought_wh and sold_wh (RunStatic.gross)
    inverter_q_kvar: Float | None = None  # (S, I) of buildings whose inverters have grid functions, + absorbs
    curtailed_for_wh: Int | None = None  # (S, I, 3) their curtailed_wh by CURTAILMENT_REASONS
    support: Float | None = None  # (S, 6) how inverters and network met: `peerwatt.results.inverters.SLOT_COLUMNS`
    envelopes: Int | None = None  # (S, L, C) buildings with limits, C as RunStatic.limit_columns; None: there are none
    heat: Float | None = None  # (S, H, 6) heated buildings, columns as HEAT_COLUMNS; None: there are none
    v_phase_pu: Float | None = None  # (S, N, 3) where phases are solved; v_pu is then the one nearest to a limit
    unbalance: Float | None = None  # (S, N) voltage unbalance factor, as a share
    phase_loading: Float | None = None  # (S, R, 3); branch_loading is the highest
    neutral_loading: Float | None = None  # (S, R) neutral current over the rated current of a phase
    slack_phase_p_kw: Float | None = None  # (S, 3) + draws from the grid above

    @property
    def voltages(self) -> Float:
        """Every voltage that was solved (S, N, P): P = 1 if the network is balanced, else 3; without any (S, 0, 1)."""
        if self.v_phase_pu is not None:
            return self.v_phase_pu
        return np.zeros((self.n_slots, 0, 1)) if self.v_pu is None else self.v_pu[:, :, np.newaxis]

    @property
    def live(self) -> NDArray[np.bool_]:
        """(S,) slots in which the network had a voltage at all: not those of an outage that leaves it dark."""
        if self.v_pu is None:
            return np.ones(self.n_slots, np.bool_)
        return np.asarray(self.v_pu.any(axis=1), np.bool_)


@dataclass(frozen=True, slots=True)
class BuildingInfo:
    """What does not change about a building."""

    id: str
    bus: int  # column in bus arrays, -1 without a network
    contract: str
    tenure: str | None
    income_band: str | None
    roof: bool | None
    vulnerable: bool | None
    pv_kw: float
    battery_kwh: float
    ev: bool
    heat_pump: bool
    community: bool  # storage only


@dataclass(frozen=True, slots=True)
class BusInfo:
    """A bus: limits and position (x east, y north; any unit; NaN where unknown)."""

    id: str
    name: str
    vn_kv: float
    x: float
    y: float
    v_min_pu: float
    v_max_pu: float


@dataclass(frozen=True, slots=True)
class BranchInfo:
    """A line or transformer between two buses (columns in bus arrays)."""

    id: str
    name: str
    kind: str  # "line" or "transformer"
    from_bus: int
    to_bus: int
    loading_max: float


@dataclass(frozen=True, slots=True)
class RunStatic:
    """Everything about a run that is the same in every slot."""

    run_id: str
    name: str
    title: str
    seed: int
    currency: str
    zone: str
    start_utc: str  # ISO 8601
    slot_s: int
    n_slots: int
    rule: str
    rule_parameters: dict[str, object]
    meter_based: bool
    pairs: bool  # the rule itself says who trades with whom
    phases: int  # 1 = balanced network, 3 = solved phase by phase
    buildings: tuple[BuildingInfo, ...]
    buses: tuple[BusInfo, ...]
    branches: tuple[BranchInfo, ...]
    notices: tuple[str, ...]  # attribution of the data used
    remarks: tuple[str, ...]  # sentences a reader must know (gaps filled, hourly data, averaging ...)
    options: dict[str, object]  # resolved settings the results need (billing period, vat per building ...)

    @property
    def origins(self) -> tuple[str, ...]:
        """Origins that energy can have; empty where the run does not follow them."""
        names = self.options.get("origins", ())
        return tuple(str(name) for name in names) if isinstance(names, list | tuple) else ()

    @property
    def deals(self) -> tuple[str, ...]:
        """Where trades come from: stages of the market with their levels, standing contracts."""
        names = self.options.get("deals", ("spot",))
        return tuple(str(name) for name in names) if isinstance(names, list | tuple) else ("spot",)

    @property
    def stages(self) -> tuple[tuple[str, str, bool], ...]:
        """Stages of the market, the last one last: name, rule, whether the rule says who trades with whom."""
        listed = self.options.get("stages", ())
        rows = listed if isinstance(listed, list | tuple) else ()
        found = tuple((str(row["name"]), str(row["rule"]), bool(row["pairs"])) for row in rows)
        return found or (("spot", self.rule, self.pairs),)

    @property
    def in_book(self) -> bool:
        """Whether the retailer stands in the book."""
        return self.options.get("backstop") == "in_book"

    @property
    def gross(self) -> bool:
        """Whether contracts can be more than what neighbours delivered in the end: records then have both."""
        return self.in_book or len(self.stages) > 1 or bool(self.standing)

    @property
    def feeding(self) -> tuple[str, ...]:
        """Ids of buildings with a car that can feed back: what it does is in their ``discharge_wh``."""
        names = self.options.get("feeding", ())
        return tuple(str(name) for name in names) if isinstance(names, list | tuple) else ()

    @property
    def heated(self) -> tuple[int, ...]:
        """Columns of the buildings that a heat pump of theirs heats, in the order of records; empty without any."""
        listed = self.options.get("heated", ())
        names = {str(name) for name in listed} if isinstance(listed, list | tuple) else set()
        return tuple(i for i, b in enumerate(self.buildings) if b.id in names)

    @property
    def limited(self) -> tuple[int, ...]:
        """Columns of the buildings that envelopes, dimming or limits of drawing concern, in the order of records."""
        listed = self.options.get("limited", ())
        names = {str(name) for name in listed} if isinstance(listed, list | tuple) else set()
        return tuple(i for i, b in enumerate(self.buildings) if b.id in names)

    @property
    def limit_columns(self) -> tuple[str, ...]:
        """What records tell of limited buildings: ENVELOPE_COLUMNS, with outages ISLAND_COLUMNS too."""
        return ENVELOPE_COLUMNS + (ISLAND_COLUMNS if self.islands else ())

    @property
    def islands(self) -> bool:
        """Whether buildings have limits in a run with outages."""
        return bool(self.options.get("islands"))

    @property
    def limit_reasons(self) -> tuple[tuple[str, str], ...]:
        """Reasons of limits and their kinds (own, envelope, dimming), in the order of their numbers."""
        listed = self.options.get("envelopes", ())
        rows = listed if isinstance(listed, list | tuple) else ()
        return (("own limit", "own"), *((str(row["reason"]), str(row["kind"])) for row in rows))

    @property
    def supporting(self) -> tuple[int, ...]:
        """Columns of the buildings whose inverters have grid functions, in the order of records."""
        listed = self.options.get("supporting", ())
        names = {str(name) for name in listed} if isinstance(listed, list | tuple) else set()
        return tuple(i for i, b in enumerate(self.buildings) if b.id in names)

    @property
    def traced(self) -> bool:
        """Whether who supplied whom is told by trades: by the rule's pairs, or there are standing contracts only."""
        return self.pairs or (bool(self.standing) and all(rule == "no_market" for _, rule, _ in self.stages))

    @property
    def rule_words(self) -> str:
        """The rule in words, with those of earlier stages: ``uniform price, after day-ahead (pair price)``."""
        *ahead, (_, last, _) = ((name, rule.replace("_", " "), pairs) for name, rule, pairs in self.stages)
        before = [f"{name} ({rule})" for name, rule, _ in ahead]
        if not before:
            return last
        listed = " and ".join([", ".join(before[:-1]), before[-1]] if before[1:] else before)
        return f"{last}, after {listed}"

    @property
    def suppliers(self) -> tuple[str, ...]:
        """Named suppliers, in the order of their columns; empty where no contract names one."""
        names = self.options.get("suppliers", ())
        return tuple(str(name) for name in names) if isinstance(names, list | tuple) else ()

    @property
    def standing(self) -> tuple[tuple[str, int, int], ...]:
        """Standing contracts: id, column of the seller, column of the buyer; in the order of the scenario."""
        listed = self.options.get("standing_contracts", ())
        rows = listed if isinstance(listed, list | tuple) else ()
        place = {b.id: i for i, b in enumerate(self.buildings)}
        return tuple((str(row["id"]), place[row["seller"]], place[row["buyer"]]) for row in rows)

    @property
    def accounts(self) -> tuple[str, ...]:
        """Account names: buildings, then the system accounts."""
        return tuple(b.id for b in self.buildings) + SYSTEM_ACCOUNTS
