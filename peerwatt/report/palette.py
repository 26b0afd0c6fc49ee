"""Colours that stay apart for colour-blind readers: Okabe-Ito for kinds, viridis and two diverging maps for values."""

from __future__ import annotations

from collections.abc import Sequence

# Okabe & Ito 2008, "Color Universal Design"; black is left out because the page has a dark mode.
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#8C8C8C"
MINT = "#8FD3BD"  # a light green beside GREEN: the same thing, the other way

EQUIPMENT_COLOURS: dict[str, str] = {
    "pv": ORANGE,
    "battery": PURPLE,
    "pv_battery": BLUE,
    "none": SKY,
    "community": GREEN,
}
"""Colours of the summary's kinds of equipment: the same in every report."""

KINDS: tuple[str, ...] = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW, GREY)
"""Colours of categories, in the order in which they are given out."""

VIRIDIS: tuple[str, ...] = (
    "#440154", "#482878", "#3E4A89", "#31688E", "#26828E", "#1F9E89", "#35B779", "#6DCD59", "#B4DE2C", "#FDE725",
)  # fmt: skip
"""Ten steps of viridis (van der Walt & Smith 2015), from low to high."""

VOLTAGE: tuple[str, ...] = ("#2166AC", "#67A9CF", "#B8D4E3", "#E8D8B5", "#EF8A62", "#B2182B")
"""Low voltage blue, nominal pale, high voltage red: after Brewer's RdBu, with a middle seen on white and on black."""


def mix(low: str, high: str, share: float) -> str:
    """The colour between two hex colours; ``share`` 0 gives ``low``, 1 gives ``high``."""
    a = [int(low[i : i + 2], 16) for i in (1, 3, 5)]
    b = [int(high[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(x + (y - x) * share):02X}" for x, y in zip(a, b, strict=True))


def colour_of(value: float, low: float, high: float, scale: Sequence[str] = VIRIDIS) -> str:
    """Colour of ``value`` on ``scale`` stretched over ``low .. high``; values outside take the end colours.

    Not a number gives grey.
    """
    if value != value:
        return GREY
    share = 0.5 if high <= low else min(max((value - low) / (high - low), 0.0), 1.0)
    place = share * (len(scale) - 1)
    step = min(int(place), len(scale) - 2)
    return mix(scale[step], scale[step + 1], place - step)


def plotly_scale(scale: Sequence[str]) -> list[list[object]]:
    """A colour scale in the form plotly.js takes."""
    return [[i / (len(scale) - 1), colour] for i, colour in enumerate(scale)]


def with_alpha(colour: str, alpha: float) -> str:
    """A hex colour as CSS ``rgba()`` with opacity ``alpha`` (0..1)."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"
