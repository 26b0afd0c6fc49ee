"""A link and a real Mosquitto: what survives a broker that dies, a network that is cut, a certificate that is wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import ServiceError
from hardware.mqtt import Backoff, BrokerSettings, Incoming, Message, MqttLink, Subscription, TlsFiles
from tests.mosquitto import Mosquitto, TestAuthority, broker, free_port, need_mosquitto

USERS = {"a": "secret-a", "b": "secret-b"}
ACL = "user a\ntopic readwrite #\n\nuser b\ntopic read #\ntopic write from-b/#\n"
WAIT_S = 20.0


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    yield from broker(tmp_path / "broker", USERS, acl=ACL)


def settings(mosquitto: Mosquitto, user: str = "a", **changes: object) -> BrokerSettings:
    made = BrokerSettings.from_url(mosquitto.url.replace("//", f"//{user}@"), password=USERS[user])
    return replace(made, **{"client_id": f"test-{user}", "timeout_s": 5.0, "will_delay_s": 0, **changes})  # type: ignore[arg-type]


class Heard:
    """What came in, for those who wait for it."""

    def __init__(self) -> None:
        self.messages: list[Incoming] = []
        self._news = asyncio.Condition()

    async def __call__(self, message: Incoming) -> None:
        async with self._news:
            self.messages.append(message)
            self._news.notify_all()

    def texts(self) -> list[str]:
        return [m.payload.decode() for m in self.messages]

    async def until(self, wanted: Callable[[list[str]], bool]) -> None:
        async with self._news:
            await asyncio.wait_for(self._news.wait_for(lambda: wanted(self.texts())), WAIT_S)


def make(
    to: BrokerSettings, *subscriptions: Subscription, will: Message | None = None, max_events: int = 1000
) -> MqttLink:
    backoff = Backoff(random.Random(7), first_s=0.05, max_s=0.2)
    return MqttLink(to, backoff, subscriptions=subscriptions, will=will, max_events=max_events)


@asynccontextmanager
async def running(*links: MqttLink, connected: bool = True) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(link.run()) for link in links]
    try:
        if connected:
            await asyncio.wait_for(asyncio.gather(*(link.connected() for link in links)), WAIT_S)
        yield
    finally:
        for link in links:
            await link.stop()
        await asyncio.wait_for(asyncio.gather(*tasks), WAIT_S)


async def true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 (counts of a link are looked at, they tell nobody)
            await asyncio.sleep(0.01)


class Cable:
    """A TCP proxy that can be cut, and that can swallow everything while the connection stays open."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = free_port()
        self.stalled = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Cable:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._copy(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if not self.stalled:
                    sink.write(data)
                    await sink.drain()
        sink.transport.abort()
        self._writers.discard(sink)


async def test_messages_arrive_in_order_and_are_acknowledged(mosquitto: Mosquitto) -> None:
    heard = Heard()
    sender, receiver = make(settings(mosquitto)), make(settings(mosquitto, "b"), Subscription("t/#", heard))
    async with running(sender, receiver):
        for i in range(200):
            assert sender.send(Message(f"t/{i % 7}", str(i).encode()))
        await heard.until(lambda t: len(t) == 200)
        await asyncio.wait_for(sender.drained(), WAIT_S)
        assert heard.texts() == [str(i) for i in range(200)]
        assert sender.status().sent == 200
        await sender.deliver(Message("t/x", b"last", correlation=b"\x00id"), 5.0)
        await heard.until(lambda t: t[-1] == "last")
        assert heard.messages[-1].correlation == b"\x00id"


async def test_publication_that_the_broker_does_not_allow_is_known(mosquitto: Mosquitto) -> None:
    link = make(settings(mosquitto, "b"))
    async with running(link):
        with pytest.raises(ServiceError, match="refuses messages to elsewhere"):
            await link.deliver(Message("elsewhere", b"x"), 5.0)
        await link.deliver(Message("from-b/x", b"x"), 5.0)
        assert (link.status().refused, link.status().sent) == (1, 1)


async def test_what_would_end_the_connection_is_not_sent(tmp_path: Path) -> None:
    heard = Heard()
    for mosquitto in broker(tmp_path / "broker", USERS, acl=ACL, extra="max_packet_size 20000"):
        link = make(settings(mosquitto))
        async with running(link, make(settings(mosquitto, "b"), Subscription("t", heard))):
            for topic in ("", "a/+/b", "a/#", "a\x00b", "x" * 70_000):
                with pytest.raises(ValueError, match="no topic"):
                    link.send(Message(topic, b"x"))
            with pytest.raises(ServiceError, match="too large"):
                await link.deliver(Message("t", bytes(30_000)), 5.0)
            await link.deliver(Message("t", b"small"), 5.0)
            await heard.until(lambda t: t == ["small"])
            assert (link.status().refused, link.status().failures, link.status().connects) == (1, 0, 1)


async def test_wrong_password_is_a_state_not_an_end(mosquitto: Mosquitto) -> None:
    link = make(replace(settings(mosquitto), password="wrong"))
    async with running(link, connected=False):
        await true(lambda: link.status().failures >= 3)
        assert "authori" in link.status().last_error.lower()
        assert not link.status().connected
        with pytest.raises(ServiceError, match="has not taken"):
            await link.deliver(Message("t", b"x"), 0.05)


async def test_handler_decides_when_a_message_is_acknowledged(mosquitto: Mosquitto) -> None:
    """A receiver that goes before its handler has returned gets the message again; one that went after, does not."""
    got: list[bytes] = []
    busy = asyncio.Event()

    async def never(message: Incoming) -> None:
        got.append(message.payload)
        if message.payload == b"2":
            busy.set()
            await asyncio.Event().wait()

    sender = make(settings(mosquitto))
    async with running(sender):
        first = make(settings(mosquitto, "b"), Subscription("t", never))
        task = asyncio.create_task(first.run())
        await first.connected()
        await sender.deliver(Message("t", b"1"), 5.0)
        await sender.deliver(Message("t", b"2"), 5.0)
        await asyncio.wait_for(busy.wait(), WAIT_S)
        await first.stop()
        await task
        heard = Heard()
        async with running(make(settings(mosquitto, "b"), Subscription("t", heard))):
            await heard.until(lambda t: t == ["2"])


async def test_handler_that_raises_does_not_stop_the_others(mosquitto: Mosquitto) -> None:
    heard = Heard()

    async def fails(_: Incoming) -> None:
        raise RuntimeError("a fault of ours")

    sender = make(settings(mosquitto))
    receiver = make(
        settings(mosquitto, "b", receive_maximum=2), Subscription("bad/#", fails), Subscription("good", heard)
    )
    async with running(sender, receiver):
        for i in range(20):
            sender.send(Message(f"bad/{i}", b"x"))
        sender.send(Message("good", b"through"))
        await heard.until(lambda t: t == ["through"])
        assert receiver.status().handler_errors == 20


async def test_what_is_in_our_hands_is_bounded(mosquitto: Mosquitto) -> None:
    """The broker keeps what we have not dealt with: at most ``receive_maximum`` handlers run."""
    running_now, most = 0, 0
    release = asyncio.Event()
    full = asyncio.Event()

    async def slow(_: Incoming) -> None:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        if running_now == 5:
            full.set()
        await release.wait()
        running_now -= 1

    sender = make(settings(mosquitto))
    receiver = make(settings(mosquitto, "b", receive_maximum=5), Subscription("t", slow))
    async with running(sender, receiver):
        for _ in range(50):
            sender.send(Message("t", b"x"))
        await asyncio.wait_for(asyncio.gather(full.wait(), sender.drained()), WAIT_S)
        assert most == 5
        release.set()
        await true(lambda: receiver.status().received == 50)
    assert most == 5


async def test_broker_that_is_not_there_yet(tmp_path: Path) -> None:
    """What is said before the broker runs: the newest states, the events that fit; the rest is counted."""
    need_mosquitto()
    mosquitto = Mosquitto(tmp_path / "broker", USERS, acl=ACL)
    link = make(settings(mosquitto), max_events=3)
    heard = Heard()
    try:
        async with running(link, connected=False):
            await true(lambda: link.status().failures >= 2)
            for i in range(5):
                link.send(Message("state/x", f"s{i}".encode(), retain=True))
                link.send(Message("event", f"e{i}".encode()))
            mosquitto.start()
            await asyncio.wait_for(link.drained(), WAIT_S)
            assert link.status().dropped == 2
            async with running(make(settings(mosquitto, "b"), Subscription("state/#", heard, kept=True))):
                await heard.until(lambda t: t == ["s4"])
                assert heard.messages[0].retain
    finally:
        mosquitto.kill()


async def test_broker_killed_in_mid_traffic(mosquitto: Mosquitto) -> None:
    """Everything the link was given arrives once the broker is back, even if that one forgot all sessions."""
    heard = Heard()
    sender, receiver = make(settings(mosquitto)), make(settings(mosquitto, "b"), Subscription("t", heard))
    async with running(sender, receiver):
        sender.send(Message("state", b"kept", retain=True))
        for i in range(150):
            sender.send(Message("t", f"1-{i}".encode()))
        await heard.until(lambda t: len(t) >= 20)
        mosquitto.kill()
        await true(lambda: not sender.status().connected and not receiver.status().connected)
        for i in range(150):
            sender.send(Message("t", f"2-{i}".encode()))
        mosquitto.start()
        await asyncio.wait_for(asyncio.gather(sender.drained(), receiver.connected()), WAIT_S)
        await sender.deliver(Message("t", b"end"), WAIT_S)
        await heard.until(lambda t: t[-1] == "end")
        status = sender.status()
        assert status.reconnects >= 1 and status.dropped == 0
        state = Heard()
        async with running(make(settings(mosquitto, "b", client_id="third"), Subscription("state", state, kept=True))):
            await state.until(lambda t: t == ["kept"])
    # The sender gave every message again for which it had no acknowledgement; what a broker that was killed had
    # acknowledged and not passed on is gone with it. That is why answers come from the engine and not from the broker.
    second = [t for t in heard.texts() if t.startswith("2-")]
    assert len(second) <= 150 and second == sorted(second, key=lambda t: int(t[2:]))


async def test_cut_cable_brings_the_last_will_and_a_new_connection(mosquitto: Mosquitto) -> None:
    heard = Heard()
    async with Cable(mosquitto.port) as cable:
        will = Message("from-b/state", b"offline", retain=True)
        link = make(settings(mosquitto, "b", port=cable.port, client_id="cut"), will=will)
        async with running(link, make(settings(mosquitto), Subscription("from-b/state", heard))):
            link.send(Message("from-b/state", b"online", retain=True))
            await heard.until(lambda t: t == ["online"])
            cable.cut()
            await heard.until(lambda t: t == ["online", "offline", "online"])  # the state is said again by itself
            assert link.status().reconnects == 1
    assert heard.texts() == ["online", "offline", "online"]  # taking leave is no accident


@pytest.mark.slow
async def test_stalled_network_is_given_up(mosquitto: Mosquitto) -> None:
    """The connection stays open and nothing passes: found by the missing acknowledgement, or by keep-alive."""
    for keepalive_s, timeout_s, talks in ((60, 1.0, True), (1, 60.0, False)):
        async with Cable(mosquitto.port) as cable:
            to = settings(mosquitto, port=cable.port, keepalive_s=keepalive_s, timeout_s=timeout_s)
            link = make(to)
            async with running(link):
                cable.stalled = True
                if talks:
                    link.send(Message("t", b"x"))
                await true(lambda link=link: not link.status().connected)
                cable.stalled = False
                cable.cut()
                await asyncio.wait_for(link.connected(), WAIT_S)
                if talks:
                    await asyncio.wait_for(link.drained(), WAIT_S)
                    assert link.status().sent == 1


@pytest.mark.slow
async def test_frozen_broker(mosquitto: Mosquitto) -> None:
    link = make(settings(mosquitto, timeout_s=1.0))
    async with running(link):
        mosquitto.freeze()
        link.send(Message("t", b"x"))
        await true(lambda: not link.status().connected)
        mosquitto.thaw()
        await asyncio.wait_for(link.drained(), WAIT_S)
        assert link.status().sent == 1


@pytest.mark.slow
async def test_kept_state_expires_on_the_broker(mosquitto: Mosquitto) -> None:
    heard, later = Heard(), Heard()
    link = make(settings(mosquitto))
    async with running(link):
        await link.deliver(Message("state/short", b"short", retain=True, expiry_s=1.0), 5.0)
        await link.deliver(Message("state/long", b"long", retain=True, expiry_s=600.0), 5.0)
        async with running(make(settings(mosquitto, "b"), Subscription("state/#", heard, kept=True))):
            await heard.until(lambda t: sorted(t) == ["long", "short"])
        assert link.state("state/short") is not None
        await asyncio.sleep(2.1)  # the broker's clock has whole seconds
        async with running(make(settings(mosquitto, "b"), Subscription("state/#", later, kept=True))):
            await later.until(lambda t: t == ["long"])
        assert link.state("state/short") is None


@pytest.mark.slow
async def test_tls_with_both_certificates_and_with_the_wrong_authority(tmp_path: Path) -> None:
    need_mosquitto()
    ours, theirs = TestAuthority(tmp_path / "ours", clients=True), TestAuthority(tmp_path / "theirs")
    mosquitto = Mosquitto(tmp_path / "broker", USERS, acl=ACL, tls=ours)
    full = TlsFiles(ours.ca, ours.client_certificate, ours.client_key)
    cases = [
        (full, ""),
        (TlsFiles(theirs.ca, ours.client_certificate, ours.client_key), "CERTIFICATE_VERIFY_FAILED"),
        (TlsFiles(None), "CERTIFICATE_VERIFY_FAILED"),
        (TlsFiles(ours.ca), ""),  # no certificate of our own: the broker ends it, in words of the TLS version
        (TlsFiles(ours.ca, theirs.client_certificate, theirs.client_key), ""),
        (TlsFiles(tmp_path / "missing.pem"), "missing.pem"),
    ]
    mosquitto.start()
    try:
        for tls, words in cases:
            link = make(settings(mosquitto, port=mosquitto.tls_port, tls=tls, timeout_s=0.5))
            good = tls == full
            async with running(link, connected=good):
                if good:
                    await link.deliver(Message("t", b"x"), 5.0)
                else:
                    await true(lambda link=link: link.status().failures >= 1)
                    assert words in link.status().last_error
                assert link.status().connected is good
    finally:
        mosquitto.kill()


@pytest.mark.slow
async def test_stopping_while_the_broker_does_not_answer() -> None:
    """Nothing hangs, and nothing of the attempt stays behind, if we stop between the connection and its answer."""
    accepted = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = make(BrokerSettings("127.0.0.1", port, timeout_s=0.5))
    task = asyncio.create_task(link.run())
    await asyncio.wait_for(accepted.wait(), WAIT_S)
    await link.stop()
    await asyncio.wait_for(task, WAIT_S)
    server.close()
    await asyncio.wait_for(server.wait_closed(), WAIT_S)
    assert not link.status().connected
