"""Settlements, disputes, contracts, envelopes and the wires' state on the wire; see `peerwatt.api.views`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import sub
from typing import Annotated, Any

from msgspec import Meta

from market.engine.facts import QUALITIES
from market.engine.state import Dispute, Envelope, SettledVersion, Settlement, Slot, Standing, State
from peerwatt import wire
from peerwatt.wire.times import SlotNames, time_text

PPM_PER_MILLE = 1_000
LOADING_LIMIT_PPM = 1_000_000
AMBER_PPM = 800_000
"""A branch at or above this loading, and below its limit, is near it."""
AMBER_VOLTAGE = 0.8
"""A bus voltage that has used up this part of the way from nominal to a limit is near it."""

_SYSTEM_ACCOUNTS = ("retailer", "operator", "network", "state")
_DISPUTE_STATUS = {"open": "open", "upheld": "upheld", "dismissed": "rejected"}


class SettlementFull(wire.SettlementOut):
    """A settled slot beside what the same meters would have cost without a market."""

    baseline_u: Annotated[wire.AmountU, Meta(description="What the same meters would have cost without a market.")] = 0
    saving_u: Annotated[wire.AmountU, Meta(description="Baseline less total; positive is saved.")] = 0


class StatementFull(wire.StatementOut):
    """A participant's account beside what the same meters would have cost without a market."""

    baseline_u: Annotated[wire.AmountU, Meta(description="What the same meters would have cost without a market.")] = 0
    saving_u: Annotated[wire.AmountU, Meta(description="Baseline less total; positive is saved.")] = 0


def lines_out(lines_u: Iterable[int]) -> wire.LinesOut:
    """Bill lines, in the order of ``BILL_LINES``."""
    return wire.LinesOut(*lines_u)


def settlement_out(
    names: SlotNames, participant: str, slot: int, version: SettledVersion, own: Settlement, before: Settlement | None
) -> SettlementFull:
    """A member's settled slot in one version, with its difference to the version before."""
    difference = None if before is None else tuple(map(sub, own.lines_u, before.lines_u))
    return SettlementFull(
        participant=participant,
        slot=names.text(slot),
        version=version.version,
        reason=version.reason,
        settled_at=time_text(version.at_us),
        seq=version.seq,
        import_wh=own.import_wh,
        export_wh=own.export_wh,
        quality=QUALITIES[own.quality],
        bought_wh=own.bought_wh,
        sold_wh=own.sold_wh,
        lines=lines_out(own.lines_u),
        total_u=sum(own.lines_u),
        baseline_u=own.baseline_u,
        saving_u=own.baseline_u - sum(own.lines_u),
        difference=None if difference is None else lines_out(difference),
        difference_u=0 if difference is None else sum(difference),
    )


def settlements_of(names: SlotNames, participant: str, member: int, slot: Slot) -> Iterator[SettlementFull]:
    """All versions of a member's slot, oldest first."""
    before: Settlement | None = None
    for version in slot.versions:
        own = version.members.get(member)
        if own is not None:
            yield settlement_out(names, participant, slot.slot, version, own, before)
            before = own


def accounts_out(version: SettledVersion) -> dict[str, int]:
    """What the accounts behind the members receive: sums over the kinds of posting."""
    columns = zip(*version.accounts_u, strict=True)
    return {name: sum(column) for name, column in zip(_SYSTEM_ACCOUNTS, columns, strict=True)}


def slot_versions(names: SlotNames, slot: Slot) -> list[wire.SlotSettlementOut]:
    """All versions of a slot over all members, oldest first; the digest of the result is in the journal only."""
    found: list[wire.SlotSettlementOut] = []
    for version in slot.versions:
        accounts = accounts_out(version)
        before = found[-1].accounts_u if found else None
        found.append(
            wire.SlotSettlementOut(
                slot=names.text(slot.slot),
                version=version.version,
                reason=version.reason,
                settled_at=time_text(version.at_us),
                seq=version.seq,
                loss_wh=version.loss_wh,
                accounts_u=accounts,
                result="",
                difference_u=None if before is None else {name: accounts[name] - before[name] for name in accounts},
            )
        )
    return found


def dispute_out(names: SlotNames, participant: str, dispute: Dispute) -> wire.DisputeOut:
    """A dispute as it stands."""
    return wire.DisputeOut(
        dispute_id=str(dispute.dispute),
        participant=participant,
        slot=names.text(dispute.slot),
        line=dispute.line,
        text=dispute.text,
        status=_DISPUTE_STATUS[dispute.state],
        opened_at=time_text(dispute.at_us),
        decided_at=time_text(dispute.decided_us) if dispute.decided_us else None,
        answer=dispute.answer,
    )


def contract_out(names: SlotNames, contract: Standing, who: Callable[[int], str], at_slot: int) -> wire.ContractOut:
    """A standing contract; ``at_slot`` is the slot that runs now."""
    return wire.ContractOut(
        contract_id=str(contract.contract_id),
        status="ended" if contract.end_slot <= at_slot else "agreed",
        seller=who(contract.seller),
        buyer=who(contract.buyer),
        offered_by=who(contract.seller),
        from_=names.text(contract.first_slot),
        to=names.text(max(contract.first_slot, contract.end_slot)),  # ended before it began: it never holds
        share_ppm=contract.share_ppm,
        volume_wh=contract.volume_wh,
        formula=contract.formula,  # type: ignore[arg-type]  # one of them, or it would not have been agreed
        price_u=contract.price_u,
    )


def envelope_out(names: SlotNames, state: State, participant: str, envelope: Envelope) -> wire.EnvelopeOut:
    """An envelope that was published."""
    publication = state.publications.get(envelope.publication)
    return wire.EnvelopeOut(
        participant=participant,
        from_=names.text(envelope.first_slot),
        to=names.text(envelope.end_slot),
        import_w=_limit(envelope.import_w),
        export_w=_limit(envelope.export_w),
        publication=envelope.publication,
        source="" if publication is None else publication.source,
        issued_at=None if publication is None else time_text(publication.at_us),
    )


def default_envelope(names: SlotNames, state: State, participant: str, first: int) -> wire.EnvelopeOut | None:
    """What holds for a member without a live envelope from ``first`` on; None if no default was set."""
    if state.envelope_default is None:
        return None
    import_w, export_w = state.envelope_default
    end = state.config.n_slots
    return wire.EnvelopeOut(
        participant=participant,
        from_=names.text(first),
        to=names.text(end),
        import_w=_limit(import_w),
        export_w=_limit(export_w),
        publication=0,
        source="default",
    )


def _limit(watts: int) -> int | None:
    return None if watts < 0 else watts


def network_state_out(names: SlotNames, slot: Slot, network: wire.NetworkOut) -> wire.NetworkStateOut:
    """What the wires did in a slot: arrays of the journal beside the names of the network's elements."""
    values = dict(slot.network)
    volts, loads = _values(values.pop("v_pu_milli", ())), _values(values.pop("loading_permille", ()))
    return wire.NetworkStateOut(
        slot=names.text(slot.slot),
        version=network.version,
        source=str(values.pop("source", "power_flow")),
        seq=slot.network_seq,
        loss_wh=slot.loss_wh,
        buses=tuple(
            wire.BusStateOut(bus.bus, v * PPM_PER_MILLE)
            for bus, v in zip(network.buses, volts, strict=False)
            if v is not None
        ),
        branches=tuple(
            wire.BranchStateOut(branch.element, load * PPM_PER_MILLE)
            for branch, load in zip(network.branches, loads, strict=False)
            if load is not None
        ),
        values=values,
    )


def _values(values: Any) -> Sequence[int | None]:
    return values if isinstance(values, list | tuple) else ()


def congestion_out(state: wire.NetworkStateOut, network: wire.NetworkOut) -> list[wire.CongestionOut]:
    """Elements of a slot that are near or beyond a limit, buses first."""
    found = []
    buses: Mapping[str, wire.BusOut] = {bus.bus: bus for bus in network.buses}
    for at in state.buses:
        bus = buses[at.bus]
        limit = bus.max_ppm if at.voltage_ppm >= LOADING_LIMIT_PPM else bus.min_ppm
        used = (at.voltage_ppm - LOADING_LIMIT_PPM) / (limit - LOADING_LIMIT_PPM or 1)
        if used >= AMBER_VOLTAGE:
            band = "red" if used > 1 else "amber"
            found.append(wire.CongestionOut(state.slot, at.bus, "bus", at.voltage_ppm, limit, band))
    kinds = {branch.element: branch.kind for branch in network.branches}
    for branch in state.branches:
        if branch.loading_ppm >= AMBER_PPM:
            band = "red" if branch.loading_ppm > LOADING_LIMIT_PPM else "amber"
            kind = kinds[branch.element]
            found.append(
                wire.CongestionOut(state.slot, branch.element, kind, branch.loading_ppm, LOADING_LIMIT_PPM, band)
            )
    return found
