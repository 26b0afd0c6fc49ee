"""The market over MQTT: topics, payloads, the gateway between a broker and the engine, access control, Home Assistant.

The broker is transport and never the record: whatever it loses, the engine has, and what it should hold is told again.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peerwatt.gateway.acl import acl_text
    from peerwatt.gateway.gateway import Gateway, GatewayStatus
    from peerwatt.gateway.topics import TOPICS, participant_topic, slot_topic

__all__ = ["TOPICS", "Gateway", "GatewayStatus", "acl_text", "participant_topic", "slot_topic"]

_HOMES = {
    "TOPICS": "peerwatt.gateway.topics",
    "Gateway": "peerwatt.gateway.gateway",
    "GatewayStatus": "peerwatt.gateway.gateway",
    "acl_text": "peerwatt.gateway.acl",
    "participant_topic": "peerwatt.gateway.topics",
    "slot_topic": "peerwatt.gateway.topics",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'peerwatt.gateway' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
