"""Home Assistant finds each building by itself: one retained message per building, in its device-based format."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from hardware.mqtt import Message
from peerwatt.gateway import topics as t
from peerwatt.gateway.news import encode

_MICRO = 1_000_000


def discovery(
    participant: str,
    markets: Sequence[str],
    *,
    currency: str,
    version: str,
    devices: Iterable[str] = (),
    set_points_last_s: float = 1_800.0,
) -> Message:
    """What makes Home Assistant show a building: its last slot, its bill, its limits, prices, and set-points.

    Parameters
    ----------
    participant
        Id of the building's participant.
    markets
        Whose prices to show.
    currency
        ISO 4217 code.
    version
        Of peerwatt.
    devices
        Devices of the building that get set-points.
    set_points_last_s
        Real seconds without a new set-point after which the old one is no longer shown.
    """
    ident = t.discovery_id(participant)
    components = {**_summary(currency), **_prices(markets, currency)}
    for device in devices:
        components[f"set_point_{device}"] = {
            **_power(f"Set-point {device}", f"value_json.set_points.get('{device}')"),
            "state_topic": t.participant_topic(participant, "setpoints"),
            "expire_after": math.ceil(set_points_last_s),
        }
    payload = {
        "device": {
            "identifiers": [ident],
            "name": participant,
            "manufacturer": "peerwatt",
            "model": "Building in a local energy market",
            "sw_version": version,
        },
        "origin": {"name": "peerwatt", "sw_version": version},
        "availability_topic": t.STATUS,
        "availability_template": "{{ value_json.state }}",
        "state_topic": t.participant_topic(participant, "home"),
        "qos": 1,
        "components": {
            name: {"platform": "sensor", "unique_id": f"{ident}_{name}", **component}
            for name, component in components.items()
        },
    }
    return Message(t.discovery_topic(participant), encode(payload), retain=True)


def no_discovery(participant: str) -> Message:
    """What makes Home Assistant forget a building."""
    return Message(t.discovery_topic(participant), b"", retain=True)


def _summary(currency: str) -> dict[str, dict[str, Any]]:
    return {
        "net_power": {**_power("Net power", "value_json.net_w"), "state_class": "measurement"},
        "net_energy": _energy("Net energy of the last slot", "value_json.net_wh"),
        "import_energy": _energy("Energy drawn in the last slot", "value_json.import_wh"),
        "export_energy": _energy("Energy fed in in the last slot", "value_json.export_wh"),
        "bill": {
            "name": "Bill so far",
            "device_class": "monetary",
            "state_class": "total",  # the only one that Home Assistant allows for money
            "unit_of_measurement": currency,
            "suggested_display_precision": 2,
            "value_template": "{{ value_json.bill }}",
        },
        "import_limit": _power("Import limit", "value_json.import_limit_w"),
        "export_limit": _power("Export limit", "value_json.export_limit_w"),
    }


def _prices(markets: Sequence[str], currency: str) -> dict[str, dict[str, Any]]:
    # Not of class monetary: that is for amounts, whose unit is a currency.
    return {
        f"price_{market}": {
            "name": f"Price {market}",
            "state_class": "measurement",
            "unit_of_measurement": f"{currency}/kWh",
            "suggested_display_precision": 4,
            "icon": "mdi:cash",
            "state_topic": t.market_topic(market, "price"),
            "value_template": (f"{{{{ none if value_json.price_u is none else value_json.price_u / {_MICRO} }}}}"),
        }
        for market in markets
    }


def _power(name: str, value: str) -> dict[str, Any]:
    return {
        "name": name,
        "device_class": "power",
        "unit_of_measurement": "W",
        "value_template": f"{{{{ {value} }}}}",
    }


def _energy(name: str, value: str) -> dict[str, Any]:
    """Energy that counts from zero in each slot, and says so: its sum is then that of all slots."""
    return {
        "name": name,
        "device_class": "energy",
        "state_class": "total",
        "unit_of_measurement": "Wh",
        "last_reset_value_template": "{{ value_json.slot or '' }}",
        "value_template": f"{{{{ {value} }}}}",
    }
