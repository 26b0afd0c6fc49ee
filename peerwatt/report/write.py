"""Writes ``report.html``: one file that shows a run and works offline."""

from __future__ import annotations

from pathlib import Path

from core import RunError
from peerwatt.report.data import ReportData
from peerwatt.report.figure import Figure
from peerwatt.report.figures_energy import carbon, energy_figures
from peerwatt.report.figures_inverters import inverter_figures
from peerwatt.report.figures_market import market_figures
from peerwatt.report.figures_network import network_figures
from peerwatt.report.figures_origin import origins
from peerwatt.report.figures_outages import outage_figures, outages_html
from peerwatt.report.figures_people import people_figures
from peerwatt.report.figures_phases import phase_figures
from peerwatt.report.load import load_report_data
from peerwatt.report.page import Section, figure_html, page_html
from peerwatt.report.sections import header_facts, key_figures, lead, making_html, notices_html, violations_html

MAX_BYTES = 6_000_000
"""A report is never larger."""

NAME = "report.html"


def write_report(run_folder: Path) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    The folder may still be unfinished (no manifest yet), as long as its tables and summary are written.

    Raises
    ------
    RunError
        If the folder holds no run, or the page would exceed 6 MB.
    """
    data = load_report_data(run_folder)
    page = render_report(data).encode()
    if len(page) > MAX_BYTES:
        raise RunError(
            f"the report would have {len(page):,} bytes, more than {MAX_BYTES:,}",
            remedy="run fewer buildings, or set `outputs: {report: false}`",
        )
    path = run_folder / NAME
    path.write_bytes(page)
    return path


_NO_NETWORK = (
    '<div class="box"><p class="missing">The scenario names no network, so voltages, loadings and losses are not '
    "computed and no limits were checked.</p></div>"
)


def report_figures(data: ReportData) -> dict[str, list[Figure]]:
    """All figures of the report by section, in the order of the page."""
    return {
        "market": market_figures(data),
        "energy": [*energy_figures(data), origins(data)],
        "network-section": [*network_figures(data), *phase_figures(data), *inverter_figures(data)],
        "outages": outage_figures(data),
        "people": people_figures(data),
        "climate": [carbon(data)],
    }


def render_report(data: ReportData) -> str:
    """The page as text."""
    groups = report_figures(data)
    drawn = {key: "".join(figure_html(f) for f in figures) for key, figures in groups.items()}
    sections = [
        Section("key-figures", "Key figures", key_figures(data)),
        Section("market", "Market", drawn["market"]),
        Section("energy", "Energy", drawn["energy"]),
        Section("network-section", "Network", drawn["network-section"] if data.static.buses else _NO_NETWORK),
        *([Section("outages", "Outages", outages_html(data) + drawn["outages"])] if drawn["outages"] else []),
        Section("people", "Who gains", drawn["people"]),
        Section("climate", "Climate", drawn["climate"]),
        *([Section("violations", "Violations", violations_html(data))] if data.static.buses else []),
        Section("notices", "Data and remarks", notices_html(data)),
        Section("making", "How it was made", making_html(data)),
    ]
    title = data.static.title or data.static.name
    return page_html(
        title=title,
        brand="peerwatt report",
        lead=lead(data),
        facts=header_facts(data),
        sections=sections,
        figures=[f for figures in groups.values() for f in figures],
        footer=f"Made by peerwatt from run {data.static.run_id}. This page is complete in itself and loads nothing.",
    )
