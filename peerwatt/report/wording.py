"""Names of household attributes and kinds, in the words of a reader."""

from __future__ import annotations

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


def household_kind(attribute: str, kind: str | bool | None) -> str:
    """A kind of household in words; ``not stated`` where the scenario does not say."""
    if kind is None:
        return NOT_STATED
    key = {True: "yes", False: "no"}[kind] if isinstance(kind, bool) else kind
    return _KINDS.get((attribute, key), key)
