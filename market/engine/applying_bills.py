"""What facts of months' bills change."""

from __future__ import annotations

from core.errors import JournalError
from market.engine import facts as f
from market.engine.applying import Effects, Handler, Parts
from market.engine.state import GONE, NOT_CHARGED, PERIOD_ACCOUNTS, PERIOD_KIND, Charged, Charges


def _charges_posted(a: Effects, fact: f.ChargesPosted, parts: Parts) -> None:
    """Post what a version adds to the one before; what erased members were charged stays with their account."""
    old = a.state.charged.get(fact.period, Charged(0, 0, 0, NOT_CHARGED, {}))
    members = {m: part.charges_u for m, part in parts.items() if isinstance(part, f.ChargesPostedPart)}
    fixed, demand, vat = (total - sum(own[k] for own in members.values()) for k, total in enumerate(fact.charges_u))
    gone = (fixed, demand, vat)
    if gone != old.gone_u and None not in parts.values():
        raise JournalError(f"posts charges of {fact.period} that do not balance", seq=a.seq)
    for member in sorted({*members, *old.members}):
        _post(a, member, members.get(member, NOT_CHARGED), old.members.get(member, NOT_CHARGED))
    _post(a, GONE, gone, old.gone_u)
    for kind, account in enumerate(PERIOD_ACCOUNTS):
        a.post(account, PERIOD_KIND + kind, fact.charges_u[kind] - old.charges_u[kind])
    a.state.charged[fact.period] = Charged(fact.version, a.seq, fact.until_seq, fact.charges_u, members, gone)


def _post(a: Effects, account: int, charges_u: Charges, before_u: Charges) -> None:
    """Let an account pay the difference."""
    for kind, (amount, before) in enumerate(zip(charges_u, before_u, strict=True)):
        a.post(account, PERIOD_KIND + kind, before - amount)


EFFECTS: dict[type[f.Fact], Handler] = {f.ChargesPosted: _charges_posted}
