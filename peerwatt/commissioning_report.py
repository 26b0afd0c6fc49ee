"""The report of a commissioning: one HTML file that needs nothing else, readable on a screen and on paper."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from controllers.commissioning.facts import ControlRecord
from controllers.commissioning.record import Record, StepRecord
from core.errors import DeviceError

_WIDTH, _HEIGHT = 640.0, 150.0
_LEFT, _BOTTOM = 60.0, 24.0
_NAMES = {
    "w": "power [W, > 0 draws]",
    "meter_w": "the meter's power [W]",
    "limit_left_s": "seconds left, as the device says",
    "power_left_s": "seconds left, as the device says",
}
_LEAST_POINTS = 4
_CSS = """
body{font:15px/1.45 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid #c8ced6}
table{border-collapse:collapse;width:100%;margin:.5rem 0}th,td{text-align:left;vertical-align:top;padding:.25rem .6rem
.25rem 0;border-bottom:1px solid #e3e7ec}th{font-weight:600}.passed{color:#156b35}.failed{color:#a40e26;font-weight:600}
.skipped{color:#7a5b00}.note{color:#4b5563}svg{display:block;width:100%;height:auto;margin:.4rem 0}
figure{margin:.8rem 0;break-inside:avoid}figcaption{font-size:.85rem;color:#4b5563}code{font-size:.85em}
.sign{display:flex;gap:3rem;margin-top:3rem}.sign div{flex:1;border-top:1px solid #1b1f24;padding-top:.3rem}
@media print{body{margin:0;max-width:none}h2{break-after:avoid}}
"""


def write_report(record: Record, file: Path) -> None:
    """Write the report; DeviceError (local) if the file cannot be written."""
    try:
        file.write_text(report_html(record), encoding="utf-8")
    except OSError as error:
        raise DeviceError(f"{file} cannot be written: {error.strerror or error}", local=True) from error


def report_html(record: Record) -> str:
    """The report as HTML."""
    who = record.identity
    title = f"{who.text}, {who.serial or 'no serial number'}"
    parts = [
        f"<h1>Commissioning of {escape(title)}</h1>",
        f"<p class=note>{record.made_at:%Y-%m-%d %H:%M} UTC. What follows was measured, not taken from documents. "
        "It is valid for this serial number, this firmware and these options only.</p>",
        _verdict(record),
        _facts(record),
        *(_control(one) for one in record.controls.values()),
        "<h2>Steps</h2>",
        *(_step(step) for step in record.steps),
        f"<p class=note>Digest of the record: <code>{record.digest}</code></p>",
        f"<div class=sign><div>{escape(record.technician) or 'Technician'}</div>"
        f"<div>{escape(record.witness) or 'Witness'}</div></div>",
    ]
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>{escape(title)}</title>"
    body = "\n".join(parts)
    return f"<!doctype html><html lang=en><head>{head}<style>{_CSS}</style></head><body>\n{body}\n</body></html>\n"


def _verdict(record: Record) -> str:
    failed = [step.name for step in record.steps if step.outcome == "failed"]
    if not record.complete:
        return "<p class=failed>The procedure was broken off. Nothing is armed on this record.</p>"
    if not record.released:
        return "<p class=failed>The device was NOT seen without an order at the end. Look at it now.</p>"
    if record.missing:
        return f"<p class=failed>Nothing is armed on this record: it does not say {', '.join(record.missing)}.</p>"
    if failed:
        return f"<p class=failed>Not everything passed: {escape(', '.join(failed))}.</p>"
    told = "<p class=passed>Everything that was tried passed; the device was left without an order, read back.</p>"
    accepted = [f"{what} was not tried, accepted by {name}" for what, name in record.accepted.items()]
    return told + "".join(f"<p class=skipped>{escape(one)}.</p>" for one in accepted)


def _facts(record: Record) -> str:
    who, tool = record.identity, record.instrument
    offset = record.clock_offset_s
    rows = [
        ("Device", who.text),
        ("Serial number", who.serial),
        ("Firmware, options", f"{who.firmware or '-'}, {who.options or '-'}"),
        ("Reached at", f"{record.address} unit {record.unit}, profile {record.profile}"),
        (
            "Second instrument",
            str(tool) or "none",
        ),
        ("Clock", f"{offset:+g} s from the reference" if isinstance(offset, float) else "not compared"),
        ("Sign of power", record.sign),
        ("Current transformers", f"direction {record.ct_direction}, phases {record.phase_order}"),
        ("Connections at once", "not tried" if record.sessions is None else str(record.sessions)),
        ("Technician, witness", f"{record.technician or '-'}, {record.witness or '-'}"),
    ]
    return "<h2>Who and what</h2>" + _table((), [(key, escape(value)) for key, value in rows])


def _control(found: ControlRecord) -> str:
    parts = [f"<h2>Control <code>{escape(found.control)}</code></h2>"]
    if found.behaviours:
        parts.append(f"<p><b>{escape(found.text)}.</b></p>")
    else:
        parts.append("<p class=failed>What its timer does is not known.</p>")
    if found.tried:
        rows = [
            (
                f"{one.value:g}",
                _number(one.measured),
                _number(one.effect_s, 2),
                _number(one.error),
                "yes" if one.ok else "NO",
            )
            for one in found.tried
        ]
        parts.append(_table(("told", "measured", "after [s]", "error", "obeyed"), rows))
    if (timer := found.timer) is not None:
        late = timer.lateness_s(20.0)
        facts = [
            ("Timer written", f"{timer.set_s} s, the device shows {_number(timer.shown_s)}"),
            (
                "Order began to end after",
                f"{_number(timer.expired_s, 2)} s, settled after {_number(timer.settled_s, 2)} s",
            ),
            ("Lateness to expect of 20 s", f"{_number(late, 1)} s"),
            ("Fell back to", f"{timer.fell_to or '-'} ({_number(timer.fell_to_value)})"),
            ("Ends while somebody reads", _yes(timer.expires_while_read)),
            ("Kept alive by the whole order", _yes(timer.held_by_order)),
            ("by the timer alone", _yes(timer.held_by_timer)),
            ("by a write to another point", _yes(timer.held_by_other)),
            ("Outlives a loss of power", _yes(timer.survives_reboot)),
        ]
        parts.append(_table((), facts))
    codes = f"Function 6: {_yes(found.writes_06)}, function 16: {_yes(found.writes_16)}."
    parts.append(f"<p>{codes} Emergency stop: {_number(found.stop_s, 2)} s.</p>")
    return "\n".join(parts)


def _number(value: float | None, places: int = 0) -> str:
    return "-" if value is None else f"{round(value, places) + 0.0:.{places}f}"  # no minus before a zero


def _yes(value: bool | None) -> str:
    return "not tried" if value is None else ("yes" if value else "no")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>" if head else ""
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{top}{body}</table>"


def _step(step: StepRecord) -> str:
    word = {"passed": "passed", "failed": "FAILED", "skipped": "left out"}[step.outcome]
    figures = [_figure(name, points) for name, points in step.traces.items() if len(points) >= _LEAST_POINTS]
    return (
        f"<p><b>{escape(step.name)}</b> <span class={step.outcome}>{word}</span> "
        f"<span class=note>{step.begun_at:%H:%M:%S} UTC, {step.lasted_s:.1f} s</span><br>{escape(step.text)}</p>"
        + "".join(figures)
    )


# --- traces -----------------------------------------------------------------------------------------------------------


def _figure(name: str, points: Sequence[tuple[float, float]]) -> str:
    """A trace over time as a small drawing with the scale written on it."""
    begin, end = points[0][0], points[-1][0]
    low, high = min(value for _, value in points), max(value for _, value in points)
    low, high = min(low, 0.0), max(high, 0.0)
    wide, tall = (end - begin) or 1.0, (high - low) or 1.0

    def x(at_s: float) -> float:
        return _LEFT + (at_s - begin) / wide * (_WIDTH - _LEFT - 8.0)

    def y(value: float) -> float:
        return 8.0 + (high - value) / tall * (_HEIGHT - _BOTTOM - 8.0)

    drawn = f"M{x(points[0][0]):.1f} {y(points[0][1]):.1f}" + "".join(
        f"H{x(at_s):.1f}V{y(value):.1f}" for at_s, value in points[1:]
    )
    marks = "".join(
        f"<line x1={_LEFT} x2={_WIDTH - 8} y1={y(v):.1f} y2={y(v):.1f} stroke=#d5dae1 />"
        f"<text x={_LEFT - 6} y={y(v) + 4:.1f} text-anchor=end>{v:g}</text>"
        for v in dict.fromkeys((low, 0.0, high))
    )
    times = "".join(
        f"<text x={x(at_s):.1f} y={_HEIGHT - 6} text-anchor={anchor}>{at_s:.1f} s</text>"
        for at_s, anchor in ((begin, "start"), (end, "end"))
    )
    label = escape(_NAMES.get(name, name))
    return (
        f"<figure><svg viewBox='0 0 {_WIDTH:g} {_HEIGHT:g}' role=img aria-label='{label}' font-size=11 fill=#4b5563>"
        f"{marks}{times}<path d='{drawn}' fill=none stroke=#0b5cad stroke-width=1.5 /></svg>"
        f"<figcaption>{label}, seconds since the step began</figcaption></figure>"
    )
