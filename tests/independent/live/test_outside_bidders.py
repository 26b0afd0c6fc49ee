"""Bidders written from the documentation alone, on the real program and a real broker, while both are killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from tests.independent.live.bidder_http import LOST, HttpBidder, ask, events
from tests.independent.live.bidder_mqtt import MqttBidder, connected
from tests.mosquitto import Mosquitto, free_port, need_mosquitto
from tests.repo.files import ROOT

BUYER, SELLER, HOME = "lab-http", "lab-mqtt", "home-1"
USERS = {name: f"secret of {name}" for name in ("gateway", BUYER, SELLER, HOME)}
PATIENCE_S = 40.0
SPEED = 600  # a slot lasts 1.5 s, and its bill comes 7.5 s after its start


def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


def peerwatt(*words: str) -> str:
    """Run a command of peerwatt to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "peerwatt", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"peerwatt {words[0]} {words[1]}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Street:
    """`peerwatt serve street5`, which can be killed and started again on the same port and data."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.data, self.log_file, self.broker = folder / "data", folder / "serve.log", broker
        self.port = free_port()
        self.root = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = ["serve", "street5", "--data", str(self.data), "--speed", str(SPEED), "--port", str(self.port)]
        words += ["--mqtt", self.broker.url.replace("//", "//gateway@")]
        environment = {"PYTHONPATH": str(ROOT), "PEERWATT_MQTT_PASSWORD": USERS["gateway"]}
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "peerwatt", *words],
                cwd=ROOT,
                env=os.environ | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log_file.read_text()
        try:
            return ask(f"{self.root}/api/v1/readyz", "").status == 200
        except LOST:
            return False

    def end(self, how: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(PATIENCE_S)

    def admin(self, path: str, body: object = None) -> Any:
        answer = ask(f"{self.root}/api/v1/{path}", (self.data / "admin.key").read_text().strip(), body)
        assert answer.status in {200, 201}, answer
        return answer.body

    def key(self, who: str, role: str) -> str:
        text: str = self.admin(f"participants/{who}/keys", {"role": role, "label": "a lab"})["key"]
        return text


class Market:
    """Street, broker and both bidders."""

    def __init__(self, folder: Path, cleanup: ExitStack) -> None:
        acl = peerwatt("mqtt", "acl", "--participants", ",".join([BUYER, SELLER, HOME]), "--operator", "gateway")
        self.broker = Mosquitto(folder / "broker", USERS, acl=acl).start()
        cleanup.callback(self.broker.kill)
        self.street = Street(folder, self.broker)
        self.street.start()
        cleanup.callback(lambda: self.street.end(signal.SIGKILL))
        until(self.street.ready, "the street")
        for name in (BUYER, SELLER):
            self.street.admin("participants", {"participant": name})
        self.seller_key = self.street.key(SELLER, "resident")
        buyer_keys = self.street.key(BUYER, "resident"), self.street.key(BUYER, "meter")
        self.buyer = HttpBidder(self.street.root, *buyer_keys, BUYER, "buy", 300_000)
        self.seller = MqttBidder("127.0.0.1", self.broker.port, SELLER, USERS[SELLER], "sell", 90_000)

    @property
    def api(self) -> str:
        return f"{self.street.root}/api/v1"

    def progress(self, what: str) -> None:
        """Wait until both bidders have further orders acknowledged and further energy traded."""
        sides: tuple[HttpBidder | MqttBidder, ...] = (self.buyer, self.seller)
        before = [(len(side.acked), max(side.results, default="")) for side in sides]
        until(
            lambda: all(
                len(side.acked) > acked + 3 and max(side.results, default="") > last
                for side, (acked, last) in zip(sides, before, strict=True)
            ),
            f"trade {what}: {before} {self.buyer.broke}\n{self.street.log_file.read_text()[-800:]}",
        )


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    need_mosquitto()
    with ExitStack() as cleanup:
        yield Market(tmp_path, cleanup)


@pytest.mark.slow
def test_outside_bidders_lose_nothing_and_see_nothing_of_others(market: Market) -> None:
    buyer, seller, street, broker = market.buyer, market.seller, market.street, market.broker
    spy, overseer = Ear(broker, SELLER), Ear(broker, "gateway")
    spy.start()
    overseer.start()
    buyer.start()
    seller.start()
    try:
        market.progress("at first")
        kill_the_street(market)
        broker.kill()
        broker.start()
        market.progress("after the broker was killed")
        street.end(signal.SIGKILL)
        broker.kill()
        broker.start()
        street.start()
        market.progress("after both were killed")
        spy.meddle(sorted(seller.open)[8])
        until(lambda: buyer.bills and seller.bills, "bills")
        pry_over_http(market)
        same_key_over_both_ways(market)
        until(lambda: any(bill["quality"] == "good" for bill in buyer.bills.values()), "a bill of a reading over HTTP")
        until(lambda: any(bill["quality"] == "good" for bill in seller.bills.values()), "a bill of a reading over MQTT")
    finally:
        buyer.stop()
        seller.stop()
    assert not buyer.broke
    check_orders(market)
    check_bills(market)
    check_news(market, spy, overseer)
    assert street.end(signal.SIGTERM) == 0
    peerwatt("journal", "verify", str(street.data))
    peerwatt("journal", "replay", str(street.data))


def kill_the_street(market: Market) -> None:
    """SIGKILL under load; what was asked and answered before is answered the same after."""
    buyer, seller = market.buyer, market.seller
    old = next(iter(buyer.acked)), next(iter(seller.acked))
    market.street.end(signal.SIGKILL)
    acked, lost = len(buyer.acked), buyer.lost
    until(lambda: buyer.lost > lost, "the buyer to find that nobody is there")
    market.street.start()
    again = buyer.enter(old[0])
    assert (again.status, again.replayed, again.body["order_id"]) == (201, True, buyer.acked[old[0]])
    seller.enter(old[1])
    market.progress(f"after the street was killed with {acked} orders")
    until(lambda: seller.repeated.get(old[1]) == seller.acked[old[1]], "the first answer again, over MQTT")
    assert buyer.enter(old[0]).body["order_id"] == buyer.acked[old[0]]


def same_key_over_both_ways(market: Market) -> None:
    """What was sent over MQTT is repeated over HTTP; a key of somebody else's is a key like any other."""
    buyer, seller = market.buyer, market.seller
    url = f"{market.api}/markets/spot/orders"
    key = max(seller.acked)
    body = {name: value for name, value in seller.bodies[key].items() if name not in {"key", "market"}}
    again = ask(url, market.seller_key, body, key=key)
    assert again.status == 201, (again, body)
    assert (again.status, again.replayed, again.body["order_id"]) == (201, True, seller.acked[key])
    other = ask(url, market.seller_key, {**body, "e_wh": 999}, key=key)
    assert (other.status, other.body["code"]) == (409, "key_reused")
    theirs = max(buyer.acked)
    own = ask(url, market.seller_key, buyer.bodies[theirs], key=theirs)
    assert not own.replayed
    assert own.status == 201 or own.body["code"] in {"market_closed", "crosses_own"}, own
    if own.status == 201:
        assert own.body["order_id"] != buyer.acked[theirs]
        ask(f"{url}/{own.body['order_id']}:cancel", market.seller_key, method="POST", key="take it back")


def pry_over_http(market: Market) -> None:
    """The seller's key on everything of the buyer's and the homes': word for word as if it did not exist."""
    token, theirs = market.seller_key, market.buyer.acked[max(market.buyer.acked)]
    order = {"slot": max(market.seller.open), "side": "sell", "e_wh": 1, "price_u": 90_000}
    tries: list[tuple[str, str, object]] = [
        ("GET", "participants/{who}/" + what, None)
        for what in ("statement", "settlements", "terms", "contracts", "envelope", "personal-data", "access-log")
    ]
    tries += [
        ("GET", "markets/spot/orders?participant={who}", None),
        ("GET", "measurements?participant={who}", None),
        ("PUT", "participants/{who}/terms", {"floor_u": 1}),
        ("POST", "participants/{who}/disputes", {"slot": order["slot"], "line": "meter", "text": "mine"}),
        ("POST", "participants/{who}/envelope/receipts", {"publication": 1, "status": "received"}),
        ("POST", "markets/spot/orders", {**order, "participant": "{who}"}),
        ("POST", "markets/spot/orders:cancel-all", {"participant": "{who}"}),
    ]
    for method, path, body in tries:
        said = {}
        for who in (BUYER, HOME, "nobody-at-all"):
            sent = json.loads(json.dumps(body).replace("{who}", who))
            key = f"pry/{method}/{path}/{who}" if method != "GET" else ""
            headers = {"If-Match": '"1"'} if method == "PUT" else {}
            answer = ask(f"{market.api}/{path.format(who=who)}", token, sent, method=method, key=key, headers=headers)
            said[who] = json.dumps(answer).replace(who, "WHO")
            assert answer.status == 404, (path, who, answer)
        assert len(set(said.values())) == 1, said
    for order_id in (theirs, "999999999"):
        assert ask(f"{market.api}/markets/spot/orders/{order_id}", token).status == 404
        for act, change in ((":cancel", None), (":amend", {"e_wh": 1})):
            url = f"{market.api}/markets/spot/orders/{order_id}{act}"
            assert ask(url, token, change, method="POST", key=f"pry{act}/{order_id}").status == 404
    for path in ("audit", "participants", "settlements", "network", f"participants/{BUYER}/keys", "envelopes"):
        assert ask(f"{market.api}/{path}", token).status == 403, path
    for path in (f"{SELLER}/../{BUYER}/statement", f"{SELLER}%2f..%2f{BUYER}/statement", f"./{BUYER}/statement"):
        assert ask(f"{market.api}/participants/{path}", token).status == 404, path
    with pytest.raises(HTTPError, match="401"):
        next(events(f"{market.api}/stream", token + "x", ""))
    # The id under which the buyer left off is no way into the buyer's news.
    last = market.buyer.heard[-20].id
    for event in islice(events(f"{market.api}/stream", token, last), 20):
        assert BUYER not in json.dumps(event.data), event


class Ear:
    """An account that tries to hear everything; and, used as a spy, to speak for others."""

    def __init__(self, broker: Mosquitto, account: str) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.client = connected("127.0.0.1", broker.port, account, USERS[account], f"ear of {account}")
        self.client.on_connect = lambda client, *_: client.subscribe(
            [(name, 1) for name in ("#", "+/+/participants/#", "$share/all/peerwatt/v1/participants/#", "$SYS/#")]
        )
        self.client.on_message = lambda _, __, message: self.heard.append((message.topic, bytes(message.payload)))

    def start(self) -> None:
        self.client.loop_start()

    def meddle(self, slot: str) -> None:
        """Orders and readings in others' names, and news in the market's."""
        order = {"market": "spot", "slot": slot, "side": "buy", "e_wh": 12_345, "price_u": 310_000, "ref": "spy"}
        reading = {"slot": slot, "import_wh": 99_999, "export_wh": 0}
        for who in (BUYER, HOME):
            own = f"peerwatt/v1/participants/{who}"
            self._say(f"{own}/orders", {"key": f"spy-{who}", **order})
            self._say(f"{own}/orders/cancel", {"key": f"spy-c-{who}", "market": "spot", "order_ids": None})
            self._say(f"{own}/meters", {"key": f"spy-m-{who}", "readings": [reading]})
            self._say(f"{own}/setpoints", {"slot": slot, "set_points": {"battery": -99_999}})
        self._say("peerwatt/v1/status", {"state": "offline"})

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _say(self, topic: str, payload: object) -> None:
        self.client.publish(topic, json.dumps(payload), qos=1).wait_for_publish(PATIENCE_S)


def check_orders(market: Market) -> None:
    """Every acknowledged order exists once, none exists that was not asked for, and results tell the same fills."""
    for side, token in ((market.buyer, market.buyer.token), (market.seller, market.seller_key)):
        reader = HttpBidder(market.street.root, token, "", side.me, "", 0)
        orders = reader.pages("markets/spot/orders")
        mine = [order for order in orders if order["ref"].startswith(f"{side.me}/")]
        assert {order["participant"] for order in orders} == {side.me}
        assert {order["ref"]: order["order_id"] for order in mine} == side.acked
        assert len(mine) == len(side.acked) == len(set(side.acked.values()))
        assert not [order for order in orders if order["ref"] == "spy"]
        # `same_key_over_both_ways` lets an order of the seller's stand for a moment, against which it may not trade.
        assert set(side.refused.values()) <= {"market_closed", "crosses_own"}, side.refused
        bought: Counter[str] = Counter()
        for order in mine:
            asked = side.bodies[order["ref"]]
            assert {name: order[name] for name in ("slot", "side", "e_wh", "price_u")}.items() <= asked.items()
            bought[order["slot"]] += order["filled_wh"]
        for slot, result in side.results.items():
            assert result["bought_wh"] + result["sold_wh"] == bought[slot], slot
        assert sum(bought.values()) > 0


def check_bills(market: Market) -> None:
    """Bills say what results and readings said, statements what bills said."""
    for side, token in ((market.buyer, market.buyer.token), (market.seller, market.seller_key)):
        reader = HttpBidder(market.street.root, token, "", side.me, "", 0)
        versions = reader.pages(f"participants/{side.me}/settlements")
        bills = {(bill["slot"], bill["version"]): bill for bill in versions}
        for slot, told in side.bills.items():
            for name in ("lines", "total_u", "import_wh", "export_wh", "quality"):
                assert bills[slot, told["version"]][name] == told[name], (slot, name)
        for (slot, _), bill in bills.items():
            if slot in side.results:
                result = side.results[slot]
                assert (bill["bought_wh"], bill["sold_wh"]) == (result["bought_wh"], result["sold_wh"])
                traded = bill["lines"]["local_bought"] + bill["lines"]["local_sold"]
                assert traded == result["paid_u"] - result["received_u"], (bill, result)
            assert bill["total_u"] == sum(bill["lines"].values())
        statement = reader.get(f"participants/{side.me}/statement")
        assert statement["total_u"] == statement["balance_u"]
    readings = {slot: bill["import_wh"] for slot, bill in market.buyer.bills.items() if bill["quality"] == "good"}
    assert readings.items() <= market.buyer.read.items()


def check_news(market: Market, spy: Ear, overseer: Ear) -> None:
    """Nobody was told anything of anybody else, over either way."""
    spy.stop()
    overseer.stop()
    others = re.compile(rf"{BUYER}|{SELLER}|home-\d")
    for event in market.buyer.heard:
        assert set(others.findall(json.dumps(event.data))) <= {BUYER}, event
        # What a service line carries is what its home draws, so only sums over the network may be told to everybody.
        assert event.name != "network" or not any(isinstance(said, list | dict) for said in event.data.values()), event
    for message in market.seller.heard:
        assert set(others.findall(message.topic + json.dumps(message.payload))) <= {SELLER}, message
    assert {"result", "bill", "slot", "snapshot"} <= {event.name for event in market.buyer.heard}
    allowed = re.compile(
        rf"peerwatt/v1/(status|markets/.*|participants/{SELLER}/.*)|homeassistant/device/peerwatt_{SELLER}/config"
    )
    topics = {topic for topic, _ in spy.heard}
    assert f"peerwatt/v1/participants/{SELLER}/results" in topics
    assert not [topic for topic in topics if not allowed.fullmatch(topic)]
    # There was something to hear, and nothing of what the spy said in others' names arrived.
    told = {topic for topic, _ in overseer.heard}
    assert {f"peerwatt/v1/participants/{who}/bills" for who in (BUYER, SELLER, HOME)} <= told
    assert not [said for said in overseer.heard if b"spy" in said[1] or b"-99999" in said[1]]
