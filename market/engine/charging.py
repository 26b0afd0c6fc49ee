"""Posting what a settled month is charged beside its slots."""

from __future__ import annotations

from market.engine import commands as c
from market.engine import facts as f
from market.engine.commands import Done, Refused
from market.engine.schedule import credit
from market.engine.state import ERASED, NOT_CHARGED, Charged, Charges
from market.engine.turn import Turn


def post_charges(turn: Turn, command: c.PostCharges) -> Done | Refused:
    """Post a month's charges, or a further version of them."""
    state = turn.state
    if not 0 <= command.first < command.end <= state.config.n_slots:
        return Refused("unknown_slot", command.period)
    if state.settled_until < command.end:
        return Refused("not_settled", command.period)
    before = state.charged.get(command.period, Charged(0, 0, 0, NOT_CHARGED, {}))
    if not before.until_seq < command.until_seq <= state.seq:
        return Refused("not_legal_now", f"{command.period} is charged up to record {before.until_seq}")
    for number, _ in command.charges:
        member = state.members.get(number)
        if member is None or member.status == ERASED:
            return Refused("not_a_member", str(number))
    totals: list[int] = [sum(own[k] for _, own in command.charges) + before.gone_u[k] for k in range(3)]
    charges_u: Charges = (totals[0], totals[1], totals[2])
    version = before.version + 1
    fact = f.ChargesPosted(command.period, command.first, command.end, version, command.until_seq, charges_u)
    charges = dict.fromkeys(before.members, NOT_CHARGED) | dict(command.charges)  # who was charged stays named in it
    parts = {member: f.ChargesPostedPart(own) for member, own in sorted(charges.items())}
    turn.do(fact, parts, unique=f"charges/{command.period}/{version}")
    credit(turn)
    return turn.done(version)
