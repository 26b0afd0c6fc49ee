"""Names of household attributes and kinds, in the words of a reader."""

from __future__ import annotations

from peerwatt.report.text import money

NOT_STATED = "not stated"
"""Kind of a household of which the scenario does not say it."""

_KINDS = {
    ("tenure", "unknown"): NOT_STATED,
    ("income_band", "unknown"): NOT_STATED,
    ("roof", "unknown"): NOT_STATED,
    ("vulnerable", "unknown"): NOT_STATED,
    ("tenure", "owner"): "owners",
    ("tenure", "tenant"): "tenants",
    ("tenure", "social"): "social housing",
    ("tenure", "business"): "businesses",
    ("income_band", "low"): "low income",
    ("income_band", "middle"): "middle income",
    ("income_band", "high"): "high income",
    ("roof", "yes"): "own roof",
    ("roof", "no"): "no own roof",
    ("vulnerable", "yes"): "vulnerable",
    ("vulnerable", "no"): "not vulnerable",
}


BATTERY_ACCOUNT = "profit or loss of the community battery"
"""What the account of storage-only buildings is called."""


def profit_or_loss(amount: float, currency: str) -> str:
    """The community battery's account in words, without its name: ``a profit of 3.00 EUR``, ``a loss of 2.00 EUR``."""
    if practically_nothing(amount):
        return "neither profit nor loss"
    return f"a {'profit' if amount > 0 else 'loss'} of {money(abs(amount), currency)}"


def practically_nothing(amount: float) -> bool:
    """Whether an amount shows as 0.00."""
    return abs(amount) < 0.005


def household_kind(attribute: str, kind: str | bool | None) -> str:
    """A kind of household in words; ``not stated`` where the scenario does not say."""
    if kind is None:
        return NOT_STATED
    key = {True: "yes", False: "no"}[kind] if isinstance(kind, bool) else kind
    return _KINDS.get((attribute, key), key)
