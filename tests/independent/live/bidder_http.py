"""A bidder over HTTP that shares nothing with the project: the standard library and what docs/api.md says."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple

ATTEMPT_S = 5.0
SILENCE_S = 20.0  # the stream promises a sign of life every 15 s
LOST = (OSError, http.client.HTTPException, json.JSONDecodeError)


class Answer(NamedTuple):
    """What the service said."""

    status: int
    replayed: bool
    body: Any


class Event(NamedTuple):
    """One event of the live stream."""

    name: str
    id: str
    data: Any


def ask(
    url: str, token: str, body: object = None, *, method: str = "", key: str = "", headers: dict[str, str] | None = None
) -> Answer:
    """One attempt of one request. Raises one of `LOST` when no answer came, so that nobody knows what was done."""
    sent = {"Authorization": f"Bearer {token}", **(headers or {})}
    if key:
        sent["Idempotency-Key"] = key
    data = None
    if body is not None:
        sent["Content-Type"] = "application/json"
        data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, sent, method=method or ("GET" if data is None else "POST"))
    try:
        with urllib.request.urlopen(request, timeout=ATTEMPT_S) as answer:
            return _answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as problem:
        return _answer(problem.code, problem.headers, problem.read())


def _answer(status: int, headers: Any, body: bytes) -> Answer:
    said = json.loads(body) if body else {}
    if status in {429, 503} and isinstance(said, dict):
        said["retry_after_s"] = float(headers.get("Retry-After") or 1)
    return Answer(status, headers.get("Idempotent-Replayed") == "true", said)


def events(url: str, token: str, last_id: str) -> Iterator[Event]:
    """The events of one connection to the stream, until it ends."""
    headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
    if last_id:
        headers["Last-Event-ID"] = last_id
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SILENCE_S) as stream:
        name, number, data = "", "", list[str]()
        for raw in stream:
            field, _, value = raw.decode().rstrip("\r\n").partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "id":
                number = value
            elif field == "data":
                data.append(value)
            elif not field and not value:  # an empty line ends an event; a comment has a value
                if data:
                    yield Event(name, number, json.loads("\n".join(data)))
                name, data = "", []


class HttpBidder:
    """Bids for every slot that takes orders, again and again, follows the stream, and reads its own meter.

    `acked` and `refused` hold what was answered by idempotency key, `bodies` what was asked for, `results` and `bills`
    what the stream told by slot.
    """

    def __init__(self, root: str, token: str, meter_token: str, me: str, side: str, price_u: int) -> None:
        self.root, self.token, self.meter_token, self.me = f"{root}/api/v1", token, meter_token, me
        self.side, self.price_u = side, price_u
        self.bodies: dict[str, dict[str, object]] = {}
        self.acked: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.results: dict[str, Any] = {}
        self.bills: dict[str, Any] = {}
        self.read: dict[str, int] = {}
        self.heard: list[Event] = []
        self.lost = 0
        self.broke: list[BaseException] = []
        self._stop = threading.Event()
        work = (self._trade, self._listen)
        self._threads = [threading.Thread(target=self._guard, args=(what,), daemon=True) for what in work]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, patience_s: float = 30.0) -> None:
        """Answer what is open, then end."""
        self._stop.set()
        for thread in self._threads:
            thread.join(patience_s)
        assert not any(thread.is_alive() for thread in self._threads), "a bidder hangs"

    def get(self, path: str) -> Any:
        answer = self._until_answered(path)
        assert answer.status == 200, answer
        return answer.body

    def pages(self, path: str) -> list[Any]:
        """All items of a list."""
        items, cursor = list[Any](), ""
        while True:
            page = self.get(f"{path}{'&' if '?' in path else '?'}limit=500{cursor}")
            items += page["items"]
            if page["next_cursor"] is None:
                return items
            cursor = f"&cursor={page['next_cursor']}"

    def enter(self, key: str) -> Answer:
        """Send an order until there is an answer, always under the same key."""
        answer = self._until_answered("markets/spot/orders", self.bodies[key], key=key)
        if answer.status == 201:
            self.acked.setdefault(key, answer.body["order_id"])
        else:
            self.refused[key] = answer.body["code"]
        return answer

    def report(self, slot: str, import_wh: int, export_wh: int) -> Answer:
        """Hand in a meter reading with the meter's own key."""
        reading = {"participant": self.me, "slot": slot, "import_wh": import_wh, "export_wh": export_wh}
        key = f"{self.me}/meter/{slot}"
        answer = self._until_answered("measurements", {"readings": [reading]}, key=key, token=self.meter_token)
        if answer.status < 300:
            self.read[slot] = import_wh
        return answer

    def _until_answered(self, path: str, body: object = None, *, key: str = "", token: str = "") -> Answer:
        wait_s = 0.05
        for _ in range(200):
            try:
                answer = ask(f"{self.root}/{path}", token or self.token, body, key=key)
            except LOST:
                self.lost += 1
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, 0.5)
                continue
            if answer.status not in {429, 503}:
                return answer
            time.sleep(min(answer.body["retry_after_s"], 2.0))
        raise AssertionError(f"never an answer to {path}")

    def _guard(self, what: Any) -> None:
        try:
            what()
        except BaseException as error:  # told to the test: a thread's own end is silent
            self.broke.append(error)
            raise

    def _trade(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            for slot in self.get("markets/spot/slots?state=open&limit=6")["items"]:
                key = f"{self.me}/{slot['slot']}/{number}"
                order = {"slot": slot["slot"], "side": self.side, "e_wh": 40 + number % 7, "price_u": self.price_u}
                self.bodies[key] = {**order, "ref": key}
                self.enter(key)
                if self._stop.wait(0.03):
                    return

    def _listen(self) -> None:
        last_id = ""
        while not self._stop.is_set():
            try:
                for event in events(f"{self.root}/stream", self.token, last_id):
                    last_id = event.id or last_id
                    self.heard.append(event)
                    self._hear(event)
                    if self._stop.is_set():
                        return
            except LOST:
                self.lost += 1
            self._stop.wait(0.2)

    def _hear(self, event: Event) -> None:
        if event.name == "result":
            self.results[event.data["slot"]] = event.data
        elif event.name == "bill":
            self.bills[event.data["slot"]] = event.data
        elif event.name == "slot" and event.data["state"] == "cleared":
            # The gate is the start of the slot, so the slots before it are over: their meters can be read.
            for slot in [name for name in self.results if name < event.data["slot"] and name not in self.read]:
                self.report(slot, self.results[slot]["bought_wh"] + 7, self.results[slot]["sold_wh"])
