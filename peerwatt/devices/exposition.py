"""Devices as figures for Prometheus: units in the names, and no sample where the value is not good.

A scrape stamps what it finds with its own time, so an old value would come out of it as a new one. What is wrong shows
in ``peerwatt_device_reading_good``, which is 0 then, ``..._quality``, which says what, and ``..._age_seconds``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from core import DeviceError, Quality, Reading

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from peerwatt.api.service import DevicesPort

_NAMES: Mapping[str, tuple[str, str, str]] = {
    "w": ("peerwatt_device_power_watts", "Active power, positive draws from the grid", ""),
    "w_a": ("peerwatt_device_phase_power_watts", "Active power of a phase, positive draws", "a"),
    "w_b": ("peerwatt_device_phase_power_watts", "Active power of a phase, positive draws", "b"),
    "w_c": ("peerwatt_device_phase_power_watts", "Active power of a phase, positive draws", "c"),
    "va": ("peerwatt_device_apparent_power_voltamperes", "Apparent power", ""),
    "var": ("peerwatt_device_reactive_power_vars", "Reactive power, positive absorbs", ""),
    "hz": ("peerwatt_device_frequency_hertz", "Frequency", ""),
    "v_a": ("peerwatt_device_voltage_volts", "Voltage of a phase to neutral", "a"),
    "v_b": ("peerwatt_device_voltage_volts", "Voltage of a phase to neutral", "b"),
    "v_c": ("peerwatt_device_voltage_volts", "Voltage of a phase to neutral", "c"),
    "a": ("peerwatt_device_current_amperes", "Current of all phases", ""),
    "imported_wh": ("peerwatt_device_imported_watthours_total", "Energy drawn since it was made", ""),
    "exported_wh": ("peerwatt_device_exported_watthours_total", "Energy fed in since it was made", ""),
    "dc_w": ("peerwatt_device_dc_power_watts", "Power of the DC side", ""),
    "soc": ("peerwatt_device_state_of_charge_ratio", "State of charge", ""),
    "stored_wh": ("peerwatt_device_stored_watthours", "Energy stored", ""),
    "temperature_c": ("peerwatt_device_temperature_celsius", "Temperature of the cabinet", ""),
    "limit_w": ("peerwatt_device_limit_watts", "Limit on feeding in that stands in the device", ""),
    "power_w": ("peerwatt_device_set_point_watts", "Set-point that stands in the device, positive charges", ""),
    "limit_left_s": ("peerwatt_device_limit_left_seconds", "Until the limit's timer runs out", ""),
    "power_left_s": ("peerwatt_device_set_point_left_seconds", "Until the set-point's timer runs out", ""),
}
"""Readings that are told: metric, its text, and the phase."""

_UP = "peerwatt_guardian_up"


async def device_figures(port: DevicesPort) -> bytes:
    """All figures of the guardian and its devices in Prometheus' text format; that it is away, when it is."""
    try:
        found = await port.devices()
        readings = await asyncio.gather(*(port.measure(str(one["id"])) for one in found))
        figures = await port.metrics()
    except DeviceError:
        return _text([_gauge(_UP, "1 if the guardian answers", {}, 0.0)])
    now_s = asyncio.get_running_loop().time()
    families = [_gauge(_UP, "1 if the guardian answers", {}, 1.0)]
    families += of_devices({str(one["id"]): (one, r) for one, r in zip(found, readings, strict=True)}, now_s)
    return _text([*families, *of_guardian(figures)])


def of_devices(devices: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Reading]]], now_s: float) -> list[Metric]:
    """Families of what the devices measure: values that are good, and the quality and age of all."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    base = ["device", "building"]
    families: dict[str, Metric] = {}
    good = GaugeMetricFamily(
        "peerwatt_device_reading_good", "1 if the reading is good, 0 if it is anything else", labels=[*base, "reading"]
    )
    quality = GaugeMetricFamily(
        "peerwatt_device_reading_quality", "1: the quality of the reading", labels=[*base, "reading", "quality"]
    )
    age = GaugeMetricFamily("peerwatt_device_reading_age_seconds", "Since it was true", labels=[*base, "reading"])
    for device, (about, readings) in sorted(devices.items()):
        labels = [device, str(about.get("building") or "")]
        for name, reading in sorted(readings.items()):
            if reading.quality is Quality.NOT_IMPLEMENTED:
                continue  # the device has no such value, and never will
            good.add_metric([*labels, name], float(reading.is_good))
            quality.add_metric([*labels, name, reading.quality.value], 1.0)
            age.add_metric([*labels, name], max(now_s - reading.source_s, 0.0))
            if name in _NAMES and reading.is_good:
                metric, text, phase = _NAMES[name]
                family = families.get(metric)
                if family is None:
                    kind = CounterMetricFamily if metric.endswith("_total") else GaugeMetricFamily
                    family = kind(metric, text, labels=[*base, *(["phase"] if phase else [])])
                    families[metric] = family
                family.add_metric([*labels, *([phase] if phase else [])], reading.good())  # type: ignore[attr-defined]
    return [*families.values(), good, quality, age]


def of_guardian(figures: list[dict[str, Any]]) -> Iterator[Metric]:
    """Families of the guardian's own figures."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    families: dict[str, Metric] = {}
    for figure in figures:
        name, labels = str(figure["name"]), dict(figure["labels"])
        if name == _UP:  # ours, which is there when it is away, too
            continue
        family = families.get(name)
        if family is None:
            kind = CounterMetricFamily if figure["kind"] == "counter" else GaugeMetricFamily
            family = families[name] = kind(name, str(figure["help"]), labels=sorted(labels))
        family.add_metric([str(labels[key]) for key in sorted(labels)], float(figure["value"]))  # type: ignore[attr-defined]
    yield from families.values()


def _gauge(name: str, text: str, labels: Mapping[str, str], value: float) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(name, text, labels=sorted(labels))
    family.add_metric([labels[key] for key in sorted(labels)], value)
    return family


def _text(families: list[Metric]) -> bytes:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Given(Collector):
        def collect(self) -> Iterator[Metric]:
            yield from families

    registry = CollectorRegistry()
    registry.register(Given())
    return generate_latest(registry)
