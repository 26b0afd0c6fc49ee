"""A bidder over MQTT that shares nothing with the project: paho and what docs/mqtt.md says."""

from __future__ import annotations

import json
import threading
import time
from typing import Any, NamedTuple

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

AGAIN_S = 1.0  # how long to wait for an answer before the request is sent again


class Heard(NamedTuple):
    """One message of the broker's."""

    topic: str
    payload: Any


def connected(host: str, port: int, account: str, password: str, client_id: str) -> Client:
    """A client that comes back by itself and whose session the broker keeps for an hour; not started yet."""
    client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set(account, password)
    client.reconnect_delay_set(1, 1)
    session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    session.SessionExpiryInterval = 3600
    client.connect_async(host, port, keepalive=10, clean_start=False, properties=session)
    return client


class MqttBidder:
    """Bids for slots that the news call open, asks again until there is an answer, and reports its own meter.

    `acked` and `refused` hold what was answered by key, `waiting` what is not answered yet, `results` and `bills` the
    newest by slot.
    """

    def __init__(self, host: str, port: int, me: str, password: str, side: str, price_u: int) -> None:
        self.me, self.side, self.price_u = me, side, price_u
        self.own = f"peerwatt/v1/participants/{me}"
        self.lock = threading.RLock()
        self.bodies: dict[str, dict[str, object]] = {}
        self.waiting: dict[str, tuple[str, float]] = {}
        self.acked: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.repeated: dict[str, str] = {}
        self.results: dict[str, Any] = {}
        self.bills: dict[str, Any] = {}
        self.read: dict[str, int] = {}
        self.open: dict[str, str] = {}
        self.heard: list[Heard] = []
        self.connections = 0
        self._stop = threading.Event()
        self.client = connected(host, port, me, password, f"bidder-{me}")
        self.client.will_set(f"{self.own}/status", '{"state": "offline"}', qos=1, retain=True)
        self.client.on_connect = self._on_connect
        self.client.on_message = self._on_message
        self._thread = threading.Thread(target=self._trade, daemon=True)

    def start(self) -> None:
        self.client.loop_start()
        self._thread.start()

    def stop(self, patience_s: float = 30.0) -> None:
        """Wait until everything is answered, then end."""
        self._stop.set()
        self._thread.join(patience_s)
        self.client.disconnect()
        self.client.loop_stop()
        assert not self._thread.is_alive(), f"never an answer to {list(self.waiting)}"

    def enter(self, key: str) -> None:
        """Send an order; it is sent again by itself until it is answered."""
        with self.lock:
            self.waiting[key] = ("orders", 0.0)
        self._send(key)

    def _on_connect(self, client: Client, *_: object) -> None:
        self.connections += 1
        client.subscribe([(f"{self.own}/#", 1), ("peerwatt/v1/markets/+/slots/+", 1), ("peerwatt/v1/status", 1)])
        client.publish(f"{self.own}/status", '{"state": "online"}', qos=1, retain=True)

    def _on_message(self, _: Client, __: object, message: MQTTMessage) -> None:
        if not message.payload:
            return
        news = json.loads(message.payload)
        with self.lock:
            self.heard.append(Heard(message.topic, news))
            if message.topic == f"{self.own}/acks":
                self._hear_ack(news)
            elif message.topic == f"{self.own}/results":
                self.results[news["slot"]] = news
            elif message.topic == f"{self.own}/bills":
                self.bills[news["slot"]] = news
            elif message.topic.startswith("peerwatt/v1/markets/") and "state" in news:
                self._hear_slot(news)

    def _hear_ack(self, news: Any) -> None:
        key = news["key"]
        if "retry_after_s" in news and news["retry_after_s"] is not None:
            return
        self.waiting.pop(key, None)
        if news["status"] == "refused":
            self.refused[key] = news["code"]
        elif news["request"] == "orders":
            order_id = news["results"][0]["order_id"]
            self.acked.setdefault(key, order_id)
            if news.get("repeated"):
                self.repeated[key] = order_id
        else:
            slot = key.rpartition("/")[2]
            self.read[slot] = self.results[slot]["sold_wh"]

    def _hear_slot(self, news: Any) -> None:
        slot = news["slot"]
        if news["state"] == "open":
            self.open[slot] = news["gate"]
            return
        self.open.pop(slot, None)
        if news["state"] != "cleared":
            return
        # The gate is the start of the slot, so the slots before it are over: their meters can be read.
        for past, result in self.results.items():
            key = f"{self.me}/meter/{past}"
            if past < slot and key not in self.bodies:
                reading = {"slot": past, "import_wh": result["bought_wh"], "export_wh": result["sold_wh"]}
                self.bodies[key] = {"key": key, "readings": [reading]}
                self.waiting[key] = ("meters", 0.0)

    def _send(self, key: str) -> None:
        with self.lock:
            if key not in self.waiting:
                return
            what, sent = self.waiting[key]
            now = time.monotonic()
            if now - sent < AGAIN_S or not self.client.is_connected():
                return
            self.waiting[key] = (what, now)
            payload = json.dumps(self.bodies[key])
        self.client.publish(f"{self.own}/{what}", payload, qos=1)

    def _trade(self) -> None:
        number = 0
        while not self._stop.is_set() or self.waiting:
            number += 1
            with self.lock:
                slots = [] if self._stop.is_set() or len(self.waiting) > 20 else sorted(self.open)[:6]
            for slot in slots:
                key = f"{self.me}/{slot}/{number}"
                order = {"market": "spot", "slot": slot, "side": self.side, "e_wh": 40 + number % 7}
                self.bodies[key] = {"key": key, **order, "price_u": self.price_u, "ref": key}
                self.enter(key)
                time.sleep(0.03)
            for key in list(self.waiting):
                self._send(key)
            time.sleep(0.1)
