"""Static pictures as SVG, drawn by hand: no scripts, no fonts to load, readable on white anywhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from peerwatt.report.palette import VIRIDIS, VOLTAGE, colour_of
from peerwatt.report.places import bus_places
from peerwatt.report.text import html, number, percent
from peerwatt.results.record import RunStatic

INK, FAINT, PAPER, ALARM = "#1F2933", "#6B7785", "#FFFFFF", "#B2182B"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


class Drawing:
    """Collects SVG elements; coordinates are pixels from the upper left corner.

    Parameters
    ----------
    width, height
        Size [px] of the view box.
    title
        Alternative text.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self._parts: list[str] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.0, dash: str = "") -> None:
        """A straight line."""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width:g}" stroke-linecap="round"{dashes}/>'
        )

    def path(self, points: Sequence[tuple[float, float]], colour: str, width: float = 2.0, fill: str = "none") -> None:
        """A line through ``points``, or the area they enclose when ``fill`` is given."""
        if not points:
            return
        d = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + ("" if fill == "none" else "Z")
        self._parts.append(
            f'<path d="{d}" fill="{fill}" stroke="{colour}" stroke-width="{width:g}" stroke-linejoin="round"/>'
        )

    def rect(
        self, x: float, y: float, width: float, height: float, fill: str, title: str = "", round_: float = 0
    ) -> None:
        """A filled rectangle with an optional tooltip."""
        inner = f"<title>{html(title)}</title>" if title else ""
        corner = f' rx="{round_:g}"' if round_ else ""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}" '
            f'fill="{fill}"{corner}>{inner}</rect>'
        )

    def dot(
        self, x: float, y: float, radius: float, fill: str, edge: str = INK, width: float = 1.0, title: str = ""
    ) -> None:
        """A filled circle with an optional tooltip."""
        inner = f"<title>{html(title)}</title>" if title else ""
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}" stroke="{edge}" '
            f'stroke-width="{width:g}">{inner}</circle>'
        )

    def text(self, x: float, y: float, words: str, *, size: float = 13, colour: str = INK, anchor: str = "start",
             weight: int = 400, halo: bool = False, turn: float = 0) -> None:  # fmt: skip
        """A line of text; ``halo`` keeps it readable on lines, ``turn`` rotates it [degrees]."""
        around = f' paint-order="stroke" stroke="{PAPER}" stroke-width="4" stroke-linejoin="round"' if halo else ""
        turned = f' transform="rotate({turn:g} {x:.1f} {y:.1f})"' if turn else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{colour}" text-anchor="{anchor}" '
            f'font-weight="{weight}"{around}{turned}>{html(words)}</text>'
        )

    def scale(self, x: float, y: float, length: float, colours: Sequence[str], marks: Sequence[tuple[float, str]],
              title: str) -> None:  # fmt: skip
        """A horizontal colour bar; ``marks`` are (share, words)."""
        self.text(x, y - 7, title, size=12, colour=FAINT)
        steps = 40
        for i in range(steps):
            colour = colour_of((i + 0.5) / steps, 0.0, 1.0, colours)
            self.rect(x + length * i / steps, y, length / steps + 0.6, 10, colour)
        for share, words in marks:
            anchor = "start" if share == 0 else ("end" if share == 1 else "middle")
            self.text(x + length * share, y + 24, words, size=11, colour=FAINT, anchor=anchor)

    def render(self) -> str:
        """The whole SVG document, on white."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-label="{html(self.title)}" font-family="{_FONT}">'
        )
        paper = f'<rect width="{self.width:g}" height="{self.height:g}" fill="{PAPER}" rx="8"/>'
        return f"{head}<title>{html(self.title)}</title>{paper}{''.join(self._parts)}</svg>\n"


def network_svg(
    static: RunStatic,
    v_pu: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]],
    loading: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]],
    *,
    title: str = "",
    width: int = 960,
    height: int = 620,
) -> str:
    """The network as SVG text: lines coloured by loading, dots by voltage, with both colour bars and labels.

    Parameters
    ----------
    static
        The run; its buses (with positions or without) and branches.
    v_pu
        Voltage of each bus [p.u.], shape ``(n_buses,)``.
    loading
        Loading of each branch, 1.0 = rated, shape ``(n_branches,)``.
    title
        Sentence that serves as caption and alternative text.
    width, height
        Size [px].

    Raises
    ------
    ValueError
        If the run has no buses or the lengths do not fit.
    """
    volts, loads = np.asarray(v_pu, np.float64), np.asarray(loading, np.float64)
    if not static.buses or len(volts) != len(static.buses) or len(loads) != len(static.branches):
        raise ValueError("network_svg needs one voltage per bus and one loading per branch of a network")
    draw = Drawing(width, height, title or "Network coloured by voltage and loading")
    places, _ = bus_places(static)
    xy = _fit(places, width, height)
    reach = max(float(np.abs(volts - 1).max()), 0.03)
    top = next(
        (step for step in (0.1, 0.25, 0.5, 0.75, 1.0) if loads.size and loads.max() <= step),
        float(loads.max(initial=1)),
    )
    for branch, load in zip(static.branches, loads, strict=True):
        (x1, y1), (x2, y2) = xy[branch.from_bus], xy[branch.to_bus]
        draw.line(x1, y1, x2, y2, colour_of(float(load), 0.0, top, VIRIDIS), 4)
        if branch.kind == "transformer":
            draw.rect((x1 + x2) / 2 - 6, (y1 + y2) / 2 - 6, 12, 12, colour_of(float(load), 0.0, top, VIRIDIS),
                      f"{branch.name or branch.id}: {percent(float(load))}", 2)  # fmt: skip
    homes = {b.bus for b in static.buildings}
    for i, (bus, v) in enumerate(zip(static.buses, volts, strict=True)):
        bad = not bus.v_min_pu <= v <= bus.v_max_pu
        draw.dot(*xy[i], 7 if i in homes else 4.5, colour_of(float(v), 1 - reach, 1 + reach, VOLTAGE),
                 ALARM if bad else INK, 2.5 if bad else 1, f"{bus.name or bus.id}: {v:.4f} p.u.")  # fmt: skip
    _labels(draw, static, volts, loads, xy)
    base = height - 34
    ends = [(0.0, number(1 - reach, 3)), (0.5, "1.0"), (1.0, number(1 + reach, 3))]
    draw.scale(30, base, width * 0.36, VOLTAGE, ends, "voltage of buses [p.u.]")
    draw.scale(width * 0.64 - 30, base, width * 0.36, VIRIDIS, [(0.0, "0"), (1.0, number(top * 100, 3))],
               "loading of lines and transformers [% of rated]")  # fmt: skip
    return draw.render()


def _fit(
    places: np.ndarray[tuple[int, int], np.dtype[np.float64]], width: float, height: float
) -> list[tuple[float, float]]:
    """Positions in pixels, as large as fits above the colour bars, east to the right, north up."""
    left, right, upper, lower = 40.0, 40.0, 36.0, 86.0
    span = np.maximum(np.ptp(places, axis=0), 1e-9)
    scale = min((width - left - right) / span[0], (height - upper - lower) / span[1])
    room_x, room_y = width - left - right - scale * span[0], height - upper - lower - scale * span[1]
    low = places.min(axis=0)
    return [
        (left + room_x / 2 + scale * (x - low[0]), height - lower - room_y / 2 - scale * (y - low[1]))
        for x, y in places
    ]


def _labels(
    draw: Drawing,
    static: RunStatic,
    volts: np.ndarray[tuple[int], np.dtype[np.float64]],
    loads: np.ndarray[tuple[int], np.dtype[np.float64]],
    xy: list[tuple[float, float]],
) -> None:
    """Names of the few elements that matter: both voltage extremes, the most loaded branch."""
    taken: list[tuple[float, float]] = []
    middle = float(np.mean([x for x, _ in xy]))

    def put(x: float, y: float, words: str) -> None:
        if any(abs(x - a) < 150 and abs(y - b) < 16 for a, b in taken):
            y += 30
        taken.append((x, y))
        outwards = x < middle and x > 140  # away from the middle of the network, unless the border is near
        leftwards = outwards or x > draw.width - 140
        draw.text(x - 12 if leftwards else x + 12, y, words, size=12.5, anchor="end" if leftwards else "start",
                  weight=600, halo=True)  # fmt: skip

    top, low = int(volts.argmax()), int(volts.argmin())
    put(xy[top][0], xy[top][1] - 8, f"{volts[top]:.3f} p.u.")
    if low != top:
        put(xy[low][0], xy[low][1] - 8, f"{volts[low]:.3f} p.u.")
    if loads.size:
        worst = int(loads.argmax())
        branch = static.branches[worst]
        (x1, y1), (x2, y2) = xy[branch.from_bus], xy[branch.to_bus]
        put((x1 + x2) / 2, (y1 + y2) / 2 + 16, f"{branch.kind} {percent(float(loads[worst]), 0)}")
