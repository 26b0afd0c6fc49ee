"""Numbers, times and names as a reader meets them: short, with units, in local time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from peerwatt.results.remarks import capital

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""Short month names, index 0 = January."""

NOTHING = "–"
"""What stands where there is no value."""

MINUS = "\N{MINUS SIGN}"
"""A minus as wide as a plus."""


def number(value: float | int | None, digits: int = 3) -> str:
    """``value`` with about ``digits`` significant digits and comma-separated thousands; a dash for none or NaN.

    Whole parts are never rounded away: 12345.6 gives ``12,346`` with any ``digits``.
    """
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else MINUS + "∞"
    if value == 0:
        return "0"
    size = abs(value)
    if size < 10**digits:
        size = float(f"{size:.{digits}g}")  # 0.9996 becomes 1.00, not 1.000
    whole = 0 if size < 1 else math.floor(math.log10(size)) + 1
    decimals = max(0, digits - whole)
    if 0 < size < 1:
        decimals = min(digits - 1 - math.floor(math.log10(size)), 8)
    text = f"{size:,.{decimals}f}"
    sign = MINUS if value < 0 and any(c in "123456789" for c in text) else ""
    return sign + text


def fixed(value: float | None, decimals: int) -> str:
    """``value`` with so many decimals, thousands separated; a dash for none or NaN."""
    if value is None or math.isnan(value):
        return NOTHING
    text = f"{abs(value):,.{decimals}f}"
    return (MINUS if value < 0 and any(c in "123456789" for c in text) else "") + text


def plain(value: float) -> str:
    """A setting as it was given, without digits it does not have: 15, 0.9, 7.5."""
    return f"{value:g}".replace("-", MINUS)


def volts(v_pu: float) -> str:
    """A voltage [p.u.] with three decimals, without the unit."""
    return fixed(v_pu, 3)


def energy(wh: float | int | None) -> str:
    """Energy given in Wh, in the unit that keeps it short: Wh, kWh, MWh or GWh."""
    if wh is None or math.isnan(wh):
        return NOTHING
    size = abs(wh)
    for limit, unit in ((1e9, "GWh"), (1e6, "MWh"), (1e3, "kWh")):
        if size >= limit:
            return f"{number(wh / limit)} {unit}"
    return f"{number(wh)} Wh"


def mass(kg: float | None) -> str:
    """Mass in kg below a tonne, in t above."""
    if kg is None or math.isnan(kg):
        return NOTHING
    return f"{number(kg / 1000)} t" if abs(kg) >= 1000 else f"{number(kg)} kg"


def money(amount: float | None, currency: str, *, signed: bool = False) -> str:
    """An amount in whole currency, two decimals below 1,000, none above; ``signed`` shows a plus too."""
    if amount is None or math.isnan(amount):
        return NOTHING
    plus = "+" if signed and amount > 0 else ""
    return f"{plus}{fixed(amount, 2 if abs(amount) < 1000 else 0)} {currency}"


def percent(share: float | None, decimals: int = 1) -> str:
    """A share (0..1) as per cent; a dash for none or NaN."""
    return NOTHING if share is None or math.isnan(share) else f"{fixed(share * 100, decimals)} %"


def settings(values: Mapping[str, object]) -> str:
    """Parameters as ``k = 1/2, key = static``; long lists and mappings are counted, not shown."""
    parts = []
    for key, value in values.items():
        if isinstance(value, dict | list | tuple) and len(value) > 3:
            parts.append(f"{label(key)}: {count(len(value), 'value')}")
        else:
            text = str(value)
            parts.append(f"{label(key)} = {text if len(text) <= 48 else text[:40] + '…'}")
    return ", ".join(parts)


def count(n: int, one: str, many: str | None = None) -> str:
    """``1 building``, ``2 buildings``."""
    return f"{n:,} {one if n == 1 else (many or one + 's')}"


def listing(words: Sequence[str], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def label(key: str) -> str:
    """A name from code as words: ``uniform_price`` gives ``uniform price``."""
    return key.replace("_", " ")


def with_kind(kind: str, name: str) -> str:
    """``line L3`` for a line named L3, but not ``line Line 3``."""
    return name if name.lower().startswith(kind.lower()) else f"{kind} {name}"


def html(text: object) -> str:
    """``text`` safe inside HTML, quotes included."""
    return escape(str(text), quote=True)


def sentence(text: str) -> str:
    """``text`` with a capital first letter, unless that is of a file's name, and a full stop."""
    text = text.strip()
    if not text:
        return ""
    return capital(text) + ("" if text[-1] in ".!?" else ".")
