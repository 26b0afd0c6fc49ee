"""A figure as plain data: plotly.js specifications written by hand, a sentence, and the reason when there is none.

plotly's own figure classes validate every property and cost seconds for a report; dictionaries cost nothing. Colours
that depend on the page's theme are written ``var(--name)`` and filled in by the page.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

Spec = dict[str, Any]
"""``{"data": [...], "layout": {...}}`` as plotly.js takes it."""

FOREGROUND = "var(--ink)"
QUIET = "var(--quiet)"
LIMIT = "var(--limit)"

NO_SLOTS = "The run kept no table of slots (`outputs: tables`), so nothing can be shown over time."
"""Why a figure over time is missing."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One drawing of a figure. ``sentence`` replaces the figure's own while the panel is shown as a tab."""

    label: str
    spec: Spec
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of the page.

    Parameters
    ----------
    id
        Anchor on the page.
    title
        Heading.
    sentence
        What to see, computed from the data; it is the alternative text too.
    panels
        Drawings; none when the data are missing.
    shown
        ``grid``: all side by side; ``tabs``: one at a time, chosen by buttons.
    missing
        Why there is nothing to draw. Exactly one of ``panels`` and ``missing`` is filled.
    note
        A caveat set small below the figure.
    fallback
        Static markup (SVG) for readers without scripts.
    """

    id: str
    title: str
    sentence: str = ""
    panels: tuple[Panel, ...] = ()
    shown: Literal["grid", "tabs"] = "grid"
    missing: str = ""
    note: str = ""
    fallback: str = ""
    wide: bool = field(default=True)

    def __post_init__(self) -> None:
        if bool(self.panels) == bool(self.missing):
            raise ValueError(f"figure {self.id} needs panels or a reason why it has none, and not both")
        if self.panels and not self.sentence:
            raise ValueError(f"figure {self.id} needs a sentence that says what to see")


def absent(id_: str, title: str, reason: str) -> Figure:
    """A figure that cannot be drawn, with the reason that stands in its place."""
    return Figure(id_, title, missing=reason)


def column(values: ArrayLike, digits: int = 4) -> dict[str, Any] | list[float | None]:
    """Numbers for a trace: compact float32 bytes when long, a JSON list with ``None`` for NaN when short.

    Two-dimensional input keeps its shape. ``digits`` decimals are kept in short lists.
    """
    array = np.asarray(values, np.float64)
    if array.ndim == 2:
        shape = f"{array.shape[0]},{array.shape[1]}"
        return {"dtype": "f4", "bdata": _bytes(array), "shape": shape}
    if array.size > 60:
        return {"dtype": "f4", "bdata": _bytes(array)}
    return [None if x != x else round(float(x), digits) for x in array]


def _bytes(array: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode("ascii")


def axis(title: str, **more: Any) -> Spec:
    """An axis with its title, which ends in the unit in brackets unless the axis names things or times."""
    return {"title": {"text": title}, **more}


def time_axis(zone: str, **more: Any) -> Spec:
    """The axis of local time; the zone stands in its title."""
    return axis(f"local time ({zone})", **{"type": "date", **more})


def line(name: str, x: Any, y: Any, colour: str, **more: Any) -> Spec:
    """A line trace."""
    width = more.pop("width", 1.8)
    shape = more.pop("shape", "linear")
    style = {"color": colour, "width": width, "shape": shape, "dash": more.pop("dash", "solid")}
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": style, **more}


def band(name: str, x: Any, low: Any, high: Any, fill: str, unit: str) -> list[Spec]:
    """Two traces that fill the space between ``low`` and ``high``; one legend entry."""
    nothing = {"color": "rgba(0,0,0,0)", "width": 0}
    lower = {"type": "scatter", "mode": "lines", "x": x, "y": low, "line": nothing, "showlegend": False}
    lower |= {"legendgroup": name, "hovertemplate": "lowest %{y:.4~g} " + unit + "<extra></extra>"}
    upper = {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": high, "line": nothing}
    upper |= {"fill": "tonexty", "fillcolor": fill, "legendgroup": name}
    upper |= {"hovertemplate": "highest %{y:.4~g} " + unit + "<extra></extra>"}
    return [lower, upper]


def bars(name: str, x: Any, y: Any, colour: Any, **more: Any) -> Spec:
    """A bar trace."""
    return {"type": "bar", "name": name, "x": x, "y": y, "marker": {"color": colour, "line": {"width": 0}}, **more}


def limit_lines(values: Sequence[float], *, across: Literal["x", "y"] = "y") -> list[Spec]:
    """Dashed lines over the whole drawing at ``values`` of the y axis (or of the x axis)."""
    other = "x" if across == "y" else "y"
    style = {"color": LIMIT, "width": 1.5, "dash": "dash"}
    return [
        {"type": "line", f"{across}0": v, f"{across}1": v, f"{other}ref": "paper", f"{other}0": 0, f"{other}1": 1,
         "line": style}
        for v in values
    ]  # fmt: skip


def layout(x: Spec, y: Spec, *, height: int = 360, **more: Any) -> Spec:
    """A layout with the two axes; the page adds fonts, colours and margins."""
    return {"xaxis": x, "yaxis": y, "height": height, **more}
