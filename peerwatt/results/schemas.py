"""What every table of a run holds: name, type, unit, sign and meaning of each column.

The tables are written from these schemas and the documents ``schemas/<table>.json`` of a run folder repeat them, so a
reader of the Parquet files needs nothing else.
"""

from __future__ import annotations

from peerwatt.results.columns import Column, TableSchema
from peerwatt.results.columns import money as _money
from peerwatt.results.columns import wh as _wh

_SLOT = Column("slot", "int32", "1", "index of the delivery slot; 0 is the first slot of the run")
_BUILDING = Column("building", "category", "", "id of the building (connection point, member, account)")
_RECEIVES = "+ the account receives, - it pays"
_PRICE = "exact price in micro-currency per kWh is price_num / price_den"

_SLOTS = TableSchema(
    "slots",
    "one slot of the whole district",
    "slot",
    (
        _SLOT,
        Column("start_utc", "timestamp", "UTC", "start of the slot; the slot ends where the next one starts"),
        Column(
            "price_per_kwh",
            "float64",
            "currency/kWh",
            "price of rules with one price, rounded to a float; null in a slot without a price",
            "may be negative",
            True,
        ),
        Column("price_num", "int64", "micro-currency", f"numerator: {_PRICE}", "may be negative", True),
        Column("price_den", "int64", "kWh", f"denominator: {_PRICE}", "", True),
        _wh("local_wh", "energy bought from neighbours (by contract, or as local share of a rule on meters)"),
        _wh("load_wh", "fixed consumption of all buildings, without heat pumps, cars and batteries"),
        _wh("heat_pump_wh", "consumption of heat pumps"),
        _wh("ev_wh", "charging of electric cars"),
        _wh("pv_wh", "photovoltaic generation after curtailment"),
        _wh("curtailed_wh", "photovoltaic generation that was curtailed"),
        _wh("charge_wh", "charging of batteries, at their AC terminals"),
        _wh("discharge_wh", "discharging of batteries, at their AC terminals, and what cars feed back"),
        _wh("import_wh", "sum of the buildings' metered imports"),
        _wh("export_wh", "sum of the buildings' metered exports"),
        _wh(
            "exchange_wh",
            "energy through the district's connection point = imports - exports + losses",
            "+ draws from the grid above, - feeds into it",
        ),
        _wh("loss_wh", "losses of the network inside the district"),
        Column("v_min_pu", "float32", "p.u.", "lowest bus voltage, mean over the slot", "", True),
        Column("v_max_pu", "float32", "p.u.", "highest bus voltage, mean over the slot", "", True),
        Column("v_mean_pu", "float32", "p.u.", "mean of the bus voltages", "", True),
        Column("max_line_loading", "float32", "1", "highest line loading; 1.0 = rated current", "", True),
        Column("max_transformer_loading", "float32", "1", "highest transformer loading; 1.0 = rated", "", True),
        Column(
            "transformer_kw",
            "float32",
            "kW",
            "sum of the transformers' active power, at the high-voltage side",
            "+ flows into the district, - flows back",
            True,
        ),
        Column("carbon_kg_per_kwh", "float64", "kg/kWh", "carbon intensity of the grid's supply", "", True),
        _money("operator_u", "change of the operator's account in the slot (surplus of the rule)", _RECEIVES),
    ),
)

_BUILDINGS = TableSchema(
    "buildings",
    "one building in one slot",
    "slot, then building in scenario order",
    (
        _SLOT,
        _BUILDING,
        _wh("load_wh", "fixed consumption, without heat pump, car and battery"),
        _wh("heat_pump_wh", "consumption of the heat pump"),
        _wh("ev_wh", "charging of the electric car"),
        _wh("pv_wh", "photovoltaic generation after curtailment"),
        _wh("curtailed_wh", "photovoltaic generation that was curtailed"),
        _wh("charge_wh", "charging of the battery, at its AC terminals"),
        _wh("discharge_wh", "discharging of the battery, at its AC terminals, and what its car feeds back"),
        _wh("soc_wh", "energy stored in the battery at the slot's start"),
        _wh("import_wh", "metered import at the connection point"),
        _wh("export_wh", "metered export at the connection point"),
        _wh("bought_wh", "energy bought from neighbours (by contract, or as local share of a rule on meters)"),
        _wh("sold_wh", "energy sold to neighbours"),
    ),
)

_TRADES = TableSchema(
    "trades",
    "one trade; a rule without pairs trades with `pool`",
    "slot, then as the rule gave them",
    (
        _SLOT,
        Column("buyer", "category", "", "id of the buying building, or `pool`"),
        Column("seller", "category", "", "id of the selling building, or `pool`"),
        _wh("e_wh", "traded energy"),
        Column("price_num", "int64", "micro-currency", f"numerator: {_PRICE}", "may be negative"),
        Column("price_den", "int64", "kWh", f"denominator: {_PRICE}"),
        Column("price_per_kwh", "float64", "currency/kWh", "the same price, rounded to a float", "may be negative"),
        _money("amount_u", "booked amount", "+ the buyer pays the seller"),
        Column(
            "deal", "category", "", "stage of the market in which it was made, with its level, or `standing contract`"
        ),
    ),
)

_BUSES = TableSchema(
    "buses",
    "one bus in one slot",
    "slot, then bus in the network's order",
    (
        _SLOT,
        Column("bus", "category", "", "id of the bus"),
        Column(
            "v_pu",
            "float32",
            "p.u.",
            "voltage magnitude, mean over the slot, per unit of the nominal voltage; where the network is solved phase "
            "by phase, that of the phase with the least room to a limit",
        ),
    ),
)

_BRANCHES = TableSchema(
    "branches",
    "one line or transformer in one slot",
    "slot, then lines, then transformers, in the network's order",
    (
        _SLOT,
        Column("branch", "category", "", "id of the line or transformer"),
        Column("loading", "float32", "1", "loading; 1.0 = rated; with phases that of the highest phase"),
        Column(
            "p_kw",
            "float32",
            "kW",
            "active power at the from side (transformers: high-voltage side)",
            "+ flows into the branch at that side",
        ),
    ),
)

_PHASES = ("a", "b", "c")
_IN_OUT = "+ draws from the grid above, - feeds into it"

_SLOT_PHASES = TableSchema(
    "slot_phases",
    "one slot of the whole district; only where the network is solved phase by phase",
    "slot",
    (
        _SLOT,
        *(
            Column(
                f"v_{phase}_{way}_pu", "float32", "p.u.", f"{words} voltage from phase {phase} to neutral of all buses"
            )
            for phase in _PHASES
            for way, words in (("min", "lowest"), ("max", "highest"))
        ),
        *(
            Column(f"exchange_{p}_kw", "float32", "kW", f"power from the grid above in phase {p}", _IN_OUT)
            for p in _PHASES
        ),
        Column("max_unbalance", "float32", "1", "highest voltage unbalance factor of all buses; 0.02 = 2 %"),
        Column("max_neutral_loading", "float32", "1", "highest current in a neutral over the rated current of a phase"),
    ),
)

_BUS_PHASES = TableSchema(
    "bus_phases",
    "one bus in one slot; only where the network is solved phase by phase",
    "slot, then bus in the network's order",
    (
        _SLOT,
        Column("bus", "category", "", "id of the bus"),
        *(
            Column(f"v_{p}_pu", "float32", "p.u.", f"voltage from phase {p} to neutral, mean over the slot")
            for p in _PHASES
        ),
        Column("unbalance", "float32", "1", "voltage unbalance factor, negative over positive sequence; 0.02 = 2 %"),
    ),
)

_BRANCH_PHASES = TableSchema(
    "branch_phases",
    "one line or transformer in one slot; only where the network is solved phase by phase",
    "slot, then lines, then transformers, in the network's order",
    (
        _SLOT,
        Column("branch", "category", "", "id of the line or transformer"),
        *(
            Column(f"loading_{p}", "float32", "1", f"loading of phase {p} at the more loaded end; 1.0 = rated")
            for p in _PHASES
        ),
        Column("neutral_loading", "float32", "1", "current in the neutral over the rated current of a phase"),
    ),
)

_LEDGER = TableSchema(
    "ledger",
    "one account in one slot",
    "slot, then account: buildings in scenario order, then retailer, operator, network, state",
    (
        _SLOT,
        Column("account", "category", "", "id of the building, or `retailer`, `operator`, `network`, `state`"),
        _money("contract_u", "postings of contracts (or of the pool of a rule on meters)", _RECEIVES),
        _money("residual_u", "postings of metered energy outside the contracts", _RECEIVES),
        _money("network_u", "network charges per unit of energy", _RECEIVES),
        _money("levies_u", "levies per unit of energy", _RECEIVES),
        _money("losses_u", "postings for the losses of the network", _RECEIVES),
    ),
)

_VIOLATIONS = TableSchema(
    "violations",
    "one limit broken by one element in one slot",
    "slot, then buses, then branches",
    (
        _SLOT,
        Column("element", "category", "", "id of the bus, line or transformer"),
        Column(
            "kind",
            "category",
            "",
            "over_voltage, under_voltage, line_overload, transformer_overload; with phases "
            "unbalance and neutral_overload too",
        ),
        Column("value", "float64", "p.u. of nominal voltage, or of rated load", "what it was, to six digits"),
        Column("limit", "float64", "as value", "what it may be"),
        Column("excess", "float64", "as value", "distance beyond the limit, to six digits"),
        Column(
            "contributors",
            "text",
            "kW",
            "up to three buildings of the district with the largest net injection "
            "(over-voltage, flow back to the grid above) or draw (else) in that slot, with its mean power; not a "
            "sensitivity",
        ),
    ),
)

_ORIGIN = Column("origin", "category", "", "origin of the energy, as in the summary's `origin`")

_CERTIFICATES = TableSchema(
    "certificates",
    "one origin in one slot, for the whole district: held before + opened + made + supplied = "
    "consumed + exported + lost + held",
    "slot, then origins in the order of the summary",
    (
        _SLOT,
        _ORIGIN,
        _wh("opened_wh", "found in batteries: what stood there before the run, or a device says it holds"),
        _wh("made_wh", "generated in the district: certificates created"),
        _wh("supplied_wh", "delivered by suppliers, network losses included"),
        _wh("consumed_wh", "consumed by loads, heat pumps and cars: certificates cancelled"),
        _wh("exported_wh", "fed in and taken by the retailer: certificates handed on"),
        _wh("lost_wh", "lost in batteries and in the network"),
        _wh("held_wh", "in batteries at the slot's end"),
        _wh("passed_wh", "handed from neighbour to neighbour, in none of the other columns"),
    ),
)

_ORIGINS = TableSchema(
    "origins",
    "one origin of what one building consumed in one slot; rows of nothing are left out",
    "slot, then building in scenario order, then origins in the order of the summary",
    (
        _SLOT,
        _BUILDING,
        _ORIGIN,
        _wh("consumed_wh", "consumed; over all origins the sum of load, heat pump and car"),
    ),
)

_HEAT = TableSchema(
    "heat",
    "one heated building in one slot",
    "slot, then building in scenario order",
    (
        _SLOT,
        _BUILDING,
        _wh("electric_wh", "electricity of the heat pump that heats the building"),
        Column("cop", "float64", "1", "heat it gives per electricity"),
        Column("outdoor_c", "float64", "degC", "outdoor temperature, mean of the slot", "may be negative"),
        Column("indoor_c", "float64", "degC", "indoor temperature at the slot's end", "may be negative"),
        Column("low_c", "float64", "degC", "lower limit of comfort at the slot's end", "may be negative"),
        Column("high_c", "float64", "degC", "upper limit of comfort at the slot's end", "may be negative"),
    ),
)

_INVERTERS = TableSchema(
    "inverters",
    "one building whose inverters have grid functions, in one slot",
    "slot, then building in scenario order",
    (
        _SLOT,
        _BUILDING,
        Column("q_kvar", "float64", "kvar", "reactive power of its inverters, slot mean", "+ absorbs, - injects"),
        _wh("export_limit_wh", "photovoltaic generation curtailed to keep the export limit"),
        _wh("voltage_wh", "photovoltaic generation curtailed because the voltage was high (volt-watt)"),
        _wh("rating_wh", "photovoltaic generation curtailed by the inverter's rating"),
        Column("rounds", "int32", "1", "power flows of the slot beyond the first until inverters and network met"),
        Column("converged", "int32", "1", "1 = they met, 0 = the values are those of the last attempt"),
    ),
)

_ENVELOPES = TableSchema(
    "envelopes",
    "one building that envelopes, dimming or a limit of drawing concern, in one slot",
    "slot, then building in scenario order",
    (
        _SLOT,
        _BUILDING,
        Column("import_limit_wh", "int64", "Wh", "most that may be drawn", nullable=True),
        Column("export_limit_wh", "int64", "Wh", "most that may be fed in", nullable=True),
        Column("import_reason", "category", "", "whose limit of drawing it is: `own limit`, or the window's reason"),
        Column("export_reason", "category", "", "whose limit of feeding in it is"),
        _wh("envelope_wh", "photovoltaic generation curtailed to keep an envelope"),
        _wh("own_limit_wh", "photovoltaic generation curtailed that the own limit would have cost alone"),
        _wh("battery_wh", "charging of batteries that was held back"),
        _wh("ev_wh", "charging of cars that was held back; it may be caught up later"),
        _wh("heat_pump_wh", "electricity for heating that was held back"),
        _wh("unfed_wh", "what batteries and cars did not feed in"),
        _wh("import_excess_wh", "drawn beyond the limit: nothing was left that could give way"),
        _wh("export_excess_wh", "fed in beyond the limit"),
    ),
)

_ISLANDS = TableSchema(
    "islands",
    "beside `envelopes` in runs with outages: what an outage had to do with it",
    "slot, then building in scenario order",
    (
        _SLOT,
        _BUILDING,
        _wh("island_wh", "photovoltaic generation that an outage curtailed: without supply, or without a taker"),
        _wh("import_island_wh", "of import_excess_wh what the building drew for the island's balance"),
        _wh("export_island_wh", "of export_excess_wh what the building fed in for the island's balance"),
    ),
)

_LINES = (
    ("local_bought", "energy bought from neighbours"),
    ("local_sold", "energy sold to neighbours"),
    ("retail_bought", "energy bought from the retailer"),
    ("retail_sold", "energy sold to the retailer"),
    ("network", "network charges per unit of energy"),
    ("levies", "levies per unit of energy"),
    ("fixed", "fixed charges of the month"),
    ("demand", "charge on the month's highest import"),
    ("vat", "value added tax on the invoice, rounded once"),
)
_PAYS = "+ the building pays, - it is credited"

_BILLS = TableSchema(
    "bills",
    "one building's bill of one local month",
    "month, then building in scenario order",
    (
        _BUILDING,
        Column("period", "text", "", "billing month, local time, e.g. 2016-03; a cut month is billed for what it has"),
        *(_money(f"{name}_u", meaning, _PAYS) for name, meaning in _LINES),
        _money("total_u", "the bill: sum of its lines", _PAYS),
        *(_money(f"baseline_{name}_u", f"{meaning}, had there been no market", _PAYS) for name, meaning in _LINES),
        _money("baseline_total_u", "the bill had there been no market, from the same meters", _PAYS),
        _money("saving_u", "baseline_total_u - total_u", "+ the market saved money, - it cost more"),
        _wh("import_wh", "metered import"),
        _wh("export_wh", "metered export"),
        _wh("bought_wh", "energy bought from neighbours"),
        _wh("sold_wh", "energy sold to neighbours"),
        Column("peak_kw", "float64", "kW", "highest import of the month, mean of a slot"),
    ),
)

TABLES: dict[str, TableSchema] = {
    schema.name: schema
    for schema in (
        _SLOTS,
        _BUILDINGS,
        _TRADES,
        _BUSES,
        _BRANCHES,
        _SLOT_PHASES,
        _BUS_PHASES,
        _BRANCH_PHASES,
        _LEDGER,
        _VIOLATIONS,
        _CERTIFICATES,
        _ORIGINS,
        _HEAT,
        _INVERTERS,
        _ENVELOPES,
        _ISLANDS,
        _BILLS,
    )
}
"""Every table a run folder may hold."""

TWINS = {"slot_phases": "slots", "bus_phases": "buses", "branch_phases": "branches"}
"""Tables that stand beside another one with the same rows, where the network is solved phase by phase."""

BESIDE_ENVELOPES = "islands"
"""The table beside ``envelopes`` with the same rows, in runs with outages."""

SLOT_TABLES = tuple(name for name in TABLES if name not in ("bills", BESIDE_ENVELOPES, *TWINS))
"""Tables that are streamed while the run goes on; ``bills`` is written at its end."""
