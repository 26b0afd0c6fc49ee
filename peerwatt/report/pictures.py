"""Static pictures of a run for a README or a slide: SVG files without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from peerwatt.report import timeline
from peerwatt.report.data import Floats, ReportData
from peerwatt.report.figures_energy import balance
from peerwatt.report.figures_market import price_and_volume
from peerwatt.report.figures_network import picture
from peerwatt.report.figures_people import batteries_of_all, kinds, savings, savings_order
from peerwatt.report.load import load_report_data
from peerwatt.report.palette import BLUE, EQUIPMENT_COLOURS, mix
from peerwatt.report.svg import FAINT, INK, Drawing, network_svg
from peerwatt.report.text import number, plain
from peerwatt.report.wording import BATTERY_ACCOUNT
from peerwatt.results import Run

WIDTH, HEIGHT = 960, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 78.0, 24.0, 64.0, 66.0


def write_pictures(run: Run | Path, folder: Path) -> list[Path]:
    """Write ``network.svg``, ``price.svg``, ``balance.svg`` and ``savings.svg``, as far as the run has such parts.

    Parameters
    ----------
    run
        A run or its folder.
    folder
        Where the pictures go; it is made.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    RunError
        If the folder holds no run.
    """
    data = load_report_data(run)
    drawings: dict[str, str] = {}
    if data.snapshots:
        first = data.snapshots[0]
        drawings["network"] = network_svg(data.static, first.v_pu, first.loading, title=picture(data).sentence)
    if data.slots and data.column("price") is not None and data.total("volume_wh"):
        drawings["price"] = _price(data)
    if data.slots:
        drawings["balance"] = _balance(data)
    if data.static.rule != "no_market":
        drawings["savings"] = _savings(data)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in drawings.items():
        path = folder / f"{name}.svg"
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers that cover ``low .. high``."""
    if high <= low:
        high = low + 1.0
    raw = (high - low) / 5
    size = 10.0 ** np.floor(np.log10(raw))
    step = next(float(m * size) for m in (1, 2, 2.5, 5, 10) if m * size >= raw)
    first = np.floor(low / step)
    last = np.ceil(high / step)
    return [float(i * step) for i in np.arange(first, last + 1)]


class _Plot:
    """A drawing with a y axis; x runs over ``n`` equal places."""

    def __init__(self, title: str, unit: str, low: float, high: float, n: int, *, says: str) -> None:
        self.draw = Drawing(WIDTH, HEIGHT, says)
        self.n = max(n, 1)
        marks = _ticks(low, high)
        self.low, self.high = marks[0], marks[-1]
        self.draw.text(_LEFT - 54, 30, title, size=16, weight=650)
        self.draw.text(_LEFT - 54, 50, unit, size=12, colour=FAINT)
        for mark in marks:
            y = self.y(mark)
            self.draw.line(_LEFT, y, WIDTH - _RIGHT, y, INK if mark == 0 else "#E1E6EB", 1)
            self.draw.text(_LEFT - 8, y + 4, plain(round(mark, 9)), size=11.5, colour=FAINT, anchor="end")

    def y(self, value: float) -> float:
        """Pixel of a value."""
        return HEIGHT - _BOTTOM - (value - self.low) / (self.high - self.low) * (HEIGHT - _TOP - _BOTTOM)

    def x(self, place: float) -> float:
        """Pixel of a place, 0 .. n."""
        return _LEFT + place / self.n * (WIDTH - _LEFT - _RIGHT)

    def labels(self, names: Sequence[str], most: int = 12) -> None:
        """Names below the axis, thinned out to at most ``most``."""
        step = max(1, -(-len(names) // most))
        for i in range(0, len(names), step):
            self.draw.text(self.x(i + 0.5), HEIGHT - _BOTTOM + 18, names[i], size=11.5, colour=FAINT, anchor="middle")

    def legend(self, entries: Sequence[tuple[str, str]]) -> None:
        """Coloured names at the bottom."""
        x, y = _LEFT, HEIGHT - 36.0
        for name, colour in entries:
            width = 24 + 6.6 * len(name)
            if x + width > WIDTH - _RIGHT:
                x, y = _LEFT, y + 17
            self.draw.rect(x, y, 11, 11, colour, round_=2)
            self.draw.text(x + 16, y + 10, name, size=12)
            x += width + 8


def _price(data: ReportData) -> str:
    """Daily mean price with its spread."""
    bins = timeline.for_lines(data)
    price = data.slots["price"]
    mean = bins.mean(price, data.slots["volume_wh"])
    low, high = bins.lowest(price), bins.highest(price)
    reach = min(0.0, float(np.nanmin(low))), float(np.nanmax(high))
    plot = _Plot("Price of local energy", data.price_unit, *reach, bins.n, says=price_and_volume(data).sentence)
    known = np.flatnonzero(np.isfinite(mean))
    edge = [(plot.x(i + 0.5), plot.y(float(high[i]))) for i in known]
    edge += [(plot.x(i + 0.5), plot.y(float(low[i]))) for i in known[::-1]]
    plot.draw.path(edge, "none", 0, mix(BLUE, "#FFFFFF", 0.75))
    plot.draw.path([(plot.x(i + 0.5), plot.y(float(mean[i]))) for i in known], BLUE, 1.8)
    plot.labels(bins.x, 8)
    word = bins.word
    plot.legend(
        [(f"mean of the {word}, by energy", BLUE), (f"lowest to highest of the {word}", mix(BLUE, "#FFFFFF", 0.75))]
    )
    return plot.draw.render()


def _balance(data: ReportData) -> str:
    """Stacked bars of the energy balance, from the report's own figure."""
    figure = balance(data)
    spec = figure.panels[0].spec
    traces = spec["data"]
    names = [str(x) for x in traces[0]["x"]] if traces else []
    stacks = [np.array([v or 0.0 for v in _plain(trace["y"])]) for trace in traces]
    up = sum((np.maximum(s, 0) for s in stacks), np.zeros(len(names)))
    down = sum((np.minimum(s, 0) for s in stacks), np.zeros(len(names)))
    unit = str(spec["layout"]["yaxis"]["title"]["text"])
    reach = float(down.min(initial=0)), float(up.max(initial=0))
    plot = _Plot("Energy balance of the district", unit, *reach, len(names), says=figure.sentence)
    above, below = np.zeros(len(names)), np.zeros(len(names))
    for trace, values in zip(traces, stacks, strict=True):
        for i, value in enumerate(values):
            base = above if value > 0 else below
            y1, y2 = plot.y(float(base[i])), plot.y(float(base[i] + value))
            says = f"{trace['name']}, {names[i]}: {number(abs(float(value)))}"
            width = plot.x(i + 0.9) - plot.x(i + 0.1)
            plot.draw.rect(plot.x(i + 0.1), min(y1, y2), width, abs(y1 - y2), trace["marker"]["color"], says)
            base[i] += value
    plot.labels(names, 12)
    plot.legend([(trace["name"], trace["marker"]["color"]) for trace in traces])
    return plot.draw.render()


def _plain(values: object) -> list[float | None]:
    """Numbers of a trace, whether listed or packed."""
    if isinstance(values, dict):
        import base64

        return [float(v) for v in np.frombuffer(base64.b64decode(values["bdata"]), "<f4")]
    return list(values) if isinstance(values, list) else []


def _savings(data: ReportData) -> str:
    """Savings of every building, sorted."""
    values: Floats = data.savings
    order = savings_order(data)
    reach = float(values.min(initial=0)), float(values.max(initial=0))
    title = "Savings per building against no market"
    plot = _Plot(title, data.currency, *reach, len(order), says=savings(data).sentence)
    colours = kinds(data)
    stores = batteries_of_all(data)
    if stores:
        colours[BATTERY_ACCOUNT] = EQUIPMENT_COLOURS["community"]
    for place, i in enumerate(order):
        y1, y2 = plot.y(0.0), plot.y(float(values[i]))
        plot.draw.rect(plot.x(place + 0.1), min(y1, y2), plot.x(place + 0.9) - plot.x(place + 0.1), abs(y1 - y2),
                       colours[BATTERY_ACCOUNT if i in stores else data.equipment[i]],
                       f"{data.static.buildings[i].id}: {values[i]:,.2f} {data.currency}")  # fmt: skip
    plot.labels([data.static.buildings[i].id for i in order], 20)
    plot.legend(list(colours.items()))
    return plot.draw.render()
