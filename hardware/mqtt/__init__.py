"""MQTT 5 through aiomqtt: a link that outlives its connections. Nothing else of peerwatt imports aiomqtt.

aiomqtt is loaded when a link first connects.
"""

from __future__ import annotations

from hardware.mqtt.backoff import Backoff
from hardware.mqtt.link import MqttLink
from hardware.mqtt.messages import Incoming, LinkStatus, Message, Subscription, topic_matches
from hardware.mqtt.settings import BrokerSettings, TlsFiles

__all__ = [
    "Backoff",
    "BrokerSettings",
    "Incoming",
    "LinkStatus",
    "Message",
    "MqttLink",
    "Subscription",
    "TlsFiles",
    "topic_matches",
]
