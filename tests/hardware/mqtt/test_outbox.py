"""The parts of a link that need no broker: the outbox, the waits between attempts, topic filters, addresses."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ServiceError
from hardware.mqtt import Backoff, BrokerSettings, LinkStatus, Message, MqttLink, TlsFiles, topic_matches
from hardware.mqtt.outbox import Entry, Outbox


def state(topic: str, text: str = "", expiry_s: float | None = None) -> Message:
    return Message(topic, text.encode(), retain=True, expiry_s=expiry_s)


def event(text: str, expiry_s: float | None = None) -> Message:
    return Message("events", text.encode(), expiry_s=expiry_s)


def everything(box: Outbox, now: float = 0.0) -> list[Entry]:
    out = []
    while (entry := box.take(now)) is not None:
        out.append(entry)
    return out


def texts(entries: list[Entry]) -> list[str]:
    return [e.message.payload.decode() for e in entries]


def test_newest_state_goes_out_at_the_place_of_the_oldest() -> None:
    box = Outbox(max_states=10, max_events=10)
    for message in (state("a", "a1"), event("e1"), state("a", "a2"), state("b", "b1"), event("e2")):
        assert box.put(message, 0.0)
    assert texts(everything(box)) == ["a2", "e1", "b1", "e2"]


def test_events_beyond_the_bound_are_refused_and_counted() -> None:
    box = Outbox(max_states=10, max_events=2)
    assert [box.put(event(str(i)), 0.0) for i in range(5)] == [True, True, False, False, False]
    assert box.dropped == 3
    assert box.put(state("a", "state"), 0.0)
    assert texts(everything(box)) == ["0", "1", "state"]
    assert box.put(event("again"), 0.0)


def test_worthless_events_make_room() -> None:
    box = Outbox(max_states=10, max_events=2)
    assert box.put(event("short", expiry_s=1.0), 0.0) and box.put(event("long", expiry_s=9.0), 0.0)
    assert not box.put(event("no room"), 0.5)
    assert box.put(event("room"), 2.0)
    assert (box.expired, box.dropped) == (1, 1)
    assert texts(everything(box, 2.0)) == ["long", "room"]


def test_expired_messages_are_not_sent() -> None:
    box = Outbox(max_states=10, max_events=10)
    box.put(state("a", "old", expiry_s=1.0), 0.0)
    box.put(event("old", expiry_s=1.0), 0.0)
    box.put(event("good"), 0.0)
    assert texts(everything(box, 1.0)) == ["good"]
    assert box.expired == 2
    assert box.state("a", 1.0) is None


def test_unacknowledged_messages_go_first_again_but_not_before_a_newer_state() -> None:
    box = Outbox(max_states=10, max_events=10)
    for message in (state("a", "a1"), event("e1"), event("e2"), event("e3")):
        box.put(message, 0.0)
    taken = [box.take(0.0) for _ in range(3)]
    box.put(state("a", "a2"), 0.0)
    box.give_back(e for e in taken if e is not None)
    assert texts(everything(box)) == ["e1", "e2", "e3", "a2"]


def test_states_that_hold_are_told_again_after_a_connection() -> None:
    box = Outbox(max_states=10, max_events=10)
    for message in (state("a", "a1"), state("b", "b1", expiry_s=5.0), event("e"), state("a", "a2")):
        box.put(message, 0.0)
    everything(box)
    box.refresh(1.0)
    assert texts(everything(box, 1.0)) == ["b1", "a2"]
    box.refresh(6.0)
    assert texts(everything(box, 6.0)) == ["a2"]


def test_every_one_counts_and_the_newest_is_kept() -> None:
    box = Outbox(max_states=10, max_events=2)
    messages = [Message("results", text, retain=True, each=True) for text in (b"r1", b"r2", b"r3")]
    assert [box.put(m, 0.0) for m in messages] == [True, True, False]
    box.refresh(0.0)
    assert texts(everything(box)) == ["r1", "r2"]
    box.refresh(0.0)
    assert texts(everything(box)) == ["r2"]


def test_number_of_states_is_bounded() -> None:
    box = Outbox(max_states=3, max_events=1)
    for i in range(5):
        box.put(state(str(i), str(i)), 0.0)
    assert texts(everything(box)) == ["2", "3", "4"]
    assert box.dropped == 2


@given(st.lists(st.tuples(st.sampled_from("abEtx"), st.integers(1, 3)), max_size=60))
def test_outbox_loses_nothing_it_does_not_count(steps: list[tuple[str, int]]) -> None:
    box = Outbox(max_states=100, max_events=8)
    in_flight: list[Entry] = []
    got: set[str] = set()
    given_events: list[str] = []
    newest: dict[str, str] = {}
    for n, (what, size) in enumerate(steps):
        if what in "ab":
            box.put(state(what, f"{what}{n}"), 0.0)
            newest[what] = f"{what}{n}"
        elif what == "E":
            if box.put(event(f"e{n}"), 0.0):
                given_events.append(f"e{n}")
        elif what == "t":
            in_flight += [e for e in (box.take(0.0) for _ in range(size)) if e is not None]
        elif size == 1:
            box.give_back(in_flight)
            in_flight.clear()
        else:
            got |= set(texts(in_flight))
            in_flight.clear()
    box.give_back(in_flight)
    rest = texts(everything(box))
    assert [t for t in rest if t.startswith("e")] == [t for t in given_events if t not in got]
    assert set(given_events) | set(newest.values()) <= got | set(rest)
    assert len(given_events) + box.dropped == sum(what == "E" for what, _ in steps)


def test_waits_grow_with_jitter_to_a_bound_and_begin_again() -> None:
    backoff = Backoff(random.Random(1), first_s=0.5, factor=2.0, max_s=10.0)
    for _ in range(2):
        waits = [backoff.next_s() for _ in range(8)]
        for wait, ceiling in zip(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0], strict=True):
            assert ceiling / 2 <= wait < ceiling
        backoff.reset()
    assert len({round(w / 10.0, 6) for w in waits[5:]}) == 3
    with pytest.raises(ValueError, match="no backoff"):
        Backoff(random.Random(1), first_s=0.0)


class _Half:
    def random(self) -> float:
        return 0.0


class _NoBroker:
    """A connection that is refused, or one that is accepted and breaks after a while."""

    def __init__(self, log: list[float], lasts_s: float | None) -> None:
        self._log = log
        self._lasts_s = lasts_s
        self.enough = asyncio.Event()

    def __call__(self, *_: Any) -> _NoBroker:
        return self

    async def open(self) -> None:
        from hardware.mqtt.connection import MqttError

        self._log.append(asyncio.get_running_loop().time())
        if len(self._log) == 7:
            self.enough.set()
        if self._lasts_s is None:
            raise MqttError("refused")

    async def listen(self, _: Any) -> None: ...

    async def lost(self) -> None:
        from hardware.mqtt.connection import MqttError

        assert self._lasts_s is not None
        await asyncio.sleep(self._lasts_s)
        raise MqttError("broken")

    async def drop(self) -> None: ...

    close = drop


@pytest.mark.parametrize(
    ("lasts_s", "times"),
    [
        # Halves of 0.5, 1, 2, 4, 5, 5 s between attempts.
        (None, [0.0, 0.25, 0.75, 1.75, 3.75, 6.25, 8.75]),
        # A broker that throws us out at once is not hammered either ...
        (1.0, [0.0, 1.25, 2.75, 4.75, 7.75, 11.25, 14.75]),
        # ... and after a connection that held, waits are short again.
        (20.0, [0.0, 20.25, 40.5, 60.75, 81.0, 101.25, 121.5]),
    ],
)
def test_attempts_on_virtual_time(
    run_on_virtual_time: Callable[[Any], Any], lasts_s: float | None, times: list[float]
) -> None:
    log: list[float] = []

    async def run() -> LinkStatus:
        broker = _NoBroker(log, lasts_s)
        backoff = Backoff(_Half(), first_s=0.5, factor=2.0, max_s=5.0)
        link = MqttLink(BrokerSettings("nowhere"), backoff, connect=broker)  # type: ignore[arg-type]
        task = asyncio.create_task(link.run())
        await broker.enough.wait()
        await link.stop()
        await task
        return link.status()

    status = run_on_virtual_time(run())
    assert log[:7] == pytest.approx(times)
    assert status.failures >= 6
    assert not status.connected
    assert status.last_error == ("refused" if lasts_s is None else "broken")


@pytest.mark.parametrize(
    ("filter_", "topic", "fits"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/+/c", "a/b/c", True),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("a/b/#", "a/c", False),
    ],
)
def test_filters(filter_: str, topic: str, fits: bool) -> None:
    assert topic_matches(filter_, topic) is fits


def test_addresses() -> None:
    settings = BrokerSettings.from_url("mqtts://gate%20way:se%3Acret@broker.example:9999")
    assert (settings.host, settings.port, settings.user, settings.password) == (
        "broker.example",
        9999,
        "gate way",
        "se:cret",
    )
    assert settings.tls == TlsFiles()
    assert "se:cret" not in repr(settings) + settings.url
    assert BrokerSettings.from_url("mqtt://localhost").port == 1883
    assert BrokerSettings.from_url("mqtts://10.0.0.1").port == 8883
    assert BrokerSettings.from_url("mqtt://[::1]").loopback


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://localhost", "no mqtt"),
        ("mqtt://", "no mqtt"),
        ("mqtt://localhost/topic", "no mqtt"),
        ("mqtt://localhost:x", "parse"),
        ("mqtt://user:topsecret@broker.example", "would not be encrypted"),
    ],
)
def test_bad_addresses_are_refused_without_their_password(url: str, words: str) -> None:
    with pytest.raises(ServiceError, match=words) as caught:
        BrokerSettings.from_url(url)
    assert "topsecret" not in str(caught.value)
    assert caught.value.remedy


def test_plain_over_the_network_has_to_be_wanted() -> None:
    assert BrokerSettings.from_url("mqtt://broker.example", plain=True).tls is None


def test_importing_the_package_does_not_load_the_library() -> None:
    code = "import hardware.mqtt, sys; sys.exit('aiomqtt' in sys.modules or 'paho' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
