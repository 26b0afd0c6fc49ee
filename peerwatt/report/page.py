"""The page around the figures: one HTML file with everything inside, and nothing that could load from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from peerwatt.report.figure import Figure
from peerwatt.report.text import html

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""Content security policy of every page: the browser itself refuses any request to the network."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: anchor, heading, and body as HTML."""

    id: str
    heading: str
    body: str


@dataclass(frozen=True, slots=True)
class Card:
    """A key figure: name, value with unit, and a line of context."""

    name: str
    value: str
    more: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell; ``value`` is what the column sorts by when it is a number, ``markup`` replaces the text."""

    text: str
    value: float | None = None
    markup: str = ""
    strong: bool = False


def cards_html(cards: Sequence[Card]) -> str:
    """Key figures as a grid of cards."""
    parts = []
    for card in cards:
        value, _, unit = card.value.partition(" ")
        unit_html = f" <small>{html(unit)}</small>" if unit else ""
        more = f'<div class="more">{html(card.more)}</div>' if card.more else ""
        parts.append(
            f'<div class="card" role="listitem"><div class="name">{html(card.name)}</div>'
            f'<div class="value">{html(value)}{unit_html}</div>{more}</div>'
        )
    return f'<div class="cards" role="list">{"".join(parts)}</div>'


def facts_html(facts: Sequence[tuple[str, str]]) -> str:
    """Pairs of name and value as a definition list."""
    rows = "".join(f"<div><dt>{html(name)}</dt><dd>{html(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{rows}</dl>'


def list_html(lines: Sequence[str], kind: str = "plain") -> str:
    """Sentences as a list."""
    return f'<ul class="{kind}">{"".join(f"<li>{html(line)}</li>" for line in lines)}</ul>'


def table_html(caption: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]], numeric: Sequence[bool]) -> str:
    """A table that can be sorted by a click on a heading.

    ``numeric[i]`` sets column i to the right.
    """
    head = "".join(
        f'<th scope="col"{" class=n" if n else ""}><button type="button">{html(h)}</button></th>'
        for h, n in zip(heads, numeric, strict=True)
    )
    body = "".join("<tr>" + "".join(_cell(c, n) for c, n in zip(row, numeric, strict=True)) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><caption>{html(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(cell: Cell, numeric: bool) -> str:
    names = " ".join(name for name, on in (("n", numeric), ("best", cell.strong)) if on)
    kind = f' class="{names}"' if names else ""
    value = "" if cell.value is None else f' data-value="{cell.value:.10g}"'
    return f"<td{kind}{value}>{cell.markup or html(cell.text)}</td>"


def figure_html(figure: Figure) -> str:
    """A figure's place on the page: heading, sentence, drawings, note; the reason when there is nothing to draw."""
    head = f"<h3>{html(figure.title)}</h3>"
    if figure.missing:
        return f'<div class="box" id="{figure.id}">{head}<p class="missing">{html(figure.missing)}</p></div>'
    says = f'<figcaption><p class="says" aria-live="polite">{html(figure.sentence)}</p></figcaption>'
    tabs = figure.shown == "tabs"
    places = []
    for i, panel in enumerate(figure.panels[:1] if tabs else figure.panels):
        label = panel.sentence or (f"{panel.label}: {figure.sentence}" if panel.label else figure.sentence)
        title = f"<h4>{html(panel.label)}</h4>" if panel.label and not tabs else ""
        height = panel.spec["layout"].get("height", 360)
        places.append(
            f'<div>{title}<div class="plot" role="img" aria-label="{html(label)}" data-figure="{figure.id}" '
            f'data-panel="{i}" style="min-height:{height}px"></div></div>'
        )
    buttons = ""
    if tabs and len(figure.panels) > 1:
        buttons = "".join(
            f'<button type="button" data-panel="{i}" aria-pressed="{"false" if i else "true"}">{html(p.label)}</button>'
            for i, p in enumerate(figure.panels)
        )
        buttons = f'<div class="tablist" role="group" aria-label="{html(figure.title)}: what to show">{buttons}</div>'
    kind = "tabs" if tabs else ("single" if len(figure.panels) == 1 else "")
    note = f'<p class="note">{html(figure.note)}</p>' if figure.note else ""
    still = f'<noscript><div class="fallback">{figure.fallback}</div></noscript>' if figure.fallback else ""
    return (
        f'<figure class="box" id="{figure.id}">{head}{says}{buttons}'
        f'<div class="panels {kind}">{"".join(places)}</div>{still}{note}</figure>'
    )


def page_html(
    *, title: str, brand: str, lead: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section],
    figures: Sequence[Figure], footer: str,
) -> str:  # fmt: skip
    """The whole page as one HTML document.

    Parameters
    ----------
    title
        Heading and title.
    brand
        Small line above the heading.
    lead
        What the page shows, in a sentence or two.
    facts
        Names and values below the lead.
    sections
        Parts of the page in order; they place the figures by ``figure_html``.
    figures
        Every figure that a section places.
    footer
        Last line.
    """
    from plotly.offline import get_plotlyjs

    contents = "".join(f'<li><a href="#{s.id}">{html(s.heading)}</a></li>' for s in sections)
    body = "".join(f'<section id="{s.id}"><h2>{html(s.heading)}</h2>{s.body}</section>' for s in sections)
    drawn = any(f.panels for f in figures)
    noscript = (
        '<noscript><div class="box">The drawings need JavaScript, which runs inside this file and loads nothing. '
        "Sentences and tables are complete without it.</div></noscript>"
    )
    scripts = f'<script type="application/json" id="figures">{figures_json(figures)}</script>'
    if drawn:
        scripts += f"<script>{get_plotlyjs()}</script>"
    scripts += f"<script>{_asset('report.js')}</script>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="generator" content="peerwatt"><title>{html(title)}</title>'
        f"<style>{_asset('report.css')}</style></head><body>"
        '<a class="skip" href="#content">Skip to the content</a>'
        f'<header class="top"><p class="brand">{html(brand)}</p><h1>{html(title)}</h1>'
        f'<p class="lead">{html(lead)}</p>{facts_html(facts)}</header>'
        f'<nav class="contents" aria-label="Contents"><ul>{contents}</ul></nav>'
        f'<main id="content">{noscript}{body}</main><footer><p>{html(footer)}</p></footer>{scripts}</body></html>\n'
    )


def figures_json(figures: Sequence[Figure]) -> str:
    """The figures' drawings as JSON that is safe inside a script element."""
    drawings: Mapping[str, Any] = {
        f.id: [{"spec": p.spec, "sentence": p.sentence} for p in f.panels] for f in figures if f.panels
    }
    text = json.dumps(drawings, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _asset(name: str) -> str:
    return files("peerwatt.report").joinpath("assets", name).read_text(encoding="utf-8")
