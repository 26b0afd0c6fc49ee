"""Access control: the file that is written, and what a real broker makes of it."""

from __future__ import annotations

import argparse
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import ServiceError
from hardware.mqtt import BrokerSettings, topic_matches
from peerwatt.gateway import topics as t
from peerwatt.gateway.acl import acl_text
from peerwatt.gateway.check import check_broker
from peerwatt.gateway.payloads import SCHEMAS
from peerwatt.mqtt_command import add_mqtt
from tests.mosquitto import Mosquitto, need_mosquitto

USERS = {"gateway": "g", "house-01": "secret-1", "house-02": "secret-2", "metering": "m"}


def rules(text: str) -> dict[str, dict[str, set[str]]]:
    """What each account may do: account -> right -> filters."""
    found: dict[str, dict[str, set[str]]] = {}
    user = ""
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "user":
            user = rest
            found[user] = {"read": set(), "write": set()}
        elif word == "topic":
            right, _, topic = rest.partition(" ")
            for one in ("read", "write") if right == "readwrite" else (right,):
                found[user][one].add(topic)
    return found


def may(text: str, user: str, right: str, topic: str) -> bool:
    return any(topic_matches(f, topic) for f in rules(text)[user][right])


def test_a_participant_may_what_is_its_own_and_nothing_else() -> None:
    text = acl_text(["house-02", "house-01"], "gateway")
    assert set(rules(text)) == {"gateway", "house-01", "house-02"}
    own = t.PARTICIPANTS + "/house-01"
    for info in t.TOPICS:
        names = {"participant": "house-01", "market": "spot", "slot": "2016-06-01T12:00:00Z", "device": "bench-1"}
        topic = info.template.format(**names)
        reads = info.reads in {t.Who.EVERYBODY, t.Who.PARTICIPANT, t.Who.METERS}
        writes = info.writes in {t.Who.PARTICIPANT, t.Who.METERS}
        assert may(text, "house-01", "read", topic) is reads, topic
        assert may(text, "house-01", "write", topic) is writes, topic
        assert may(text, "gateway", "read", topic) and may(text, "gateway", "write", topic)
        if topic.startswith(own):
            assert not may(text, "house-02", "read", topic) and not may(text, "house-02", "write", topic)
    assert may(text, "house-01", "read", own + "/acks/thread-7")
    for topic in ("$SYS/broker/uptime", "other/topic", "homeassistant/status", t.ROOT + "/operator/network"):
        assert not may(text, "house-01", "read", topic) and not may(text, "house-01", "write", topic)
    assert may(text, "house-01", "read", t.discovery_topic("house-01"))
    assert not may(text, "house-01", "read", t.discovery_topic("house-02"))
    for user in ("house-01", "house-02"):
        assert all("+" not in f.split("/")[:4] and "#" not in f.split("/")[:4] for f in rules(text)[user]["write"])


def test_the_meters_account_and_nobody_else_sends_readings() -> None:
    text = acl_text(["house-01"], "gateway", meters="metering")
    meters = t.participant_topic("house-01", "meters")
    assert may(text, "metering", "write", meters) and not may(text, "house-01", "write", meters)
    assert may(text, "metering", "read", meters + "/acks") and not may(text, "house-01", "read", meters + "/acks")
    for name in ("orders", "acks", "results", "home"):
        topic = t.participant_topic("house-01", name)
        assert not may(text, "metering", "write", topic) and not may(text, "metering", "read", topic)


@pytest.mark.parametrize(
    ("participants", "operator", "meters"),
    [
        (["a/b"], "gateway", None),
        (["a+"], "gateway", None),
        (["#"], "gateway", None),
        (["House"], "gateway", None),
        (["a\ntopic readwrite #"], "gateway", None),
        (["a "], "gateway", None),
        ([""], "gateway", None),
        (["a"], "a", None),
        (["a"], "gateway", "a"),
        (["a"], "gateway", "gateway"),
        (["a"], "gate way", None),
        (["a"], "x\nuser y", None),
        (["a"], "g#", None),
    ],
)
def test_names_that_would_open_more_are_refused(participants: list[str], operator: str, meters: str | None) -> None:
    with pytest.raises(ServiceError):
        acl_text(participants, operator, meters=meters)


def test_topics_refuse_names_that_reach_further() -> None:
    for name in ("", "a/b", "+", "#", "a\x00"):
        for make in (t.market_topic, t.discovery_topic, lambda n: t.participant_topic(n, "acks")):
            with pytest.raises(ValueError, match="cannot stand"):
                make(name)
    names = ["a.b", "a-b", "a_b", "a_-b", "a__b", "a_.b", "a._b"]
    assert len({t.discovery_id(name) for name in names}) == len(names)
    assert t.split_participant(t.participant_topic("house-01", "orders/amend")) == ("house-01", "orders/amend")
    assert t.split_participant(t.STATUS) is None and t.split_participant(t.PARTICIPANTS + "/x") is None


def test_every_payload_of_the_table_has_a_schema() -> None:
    assert {info.payload for info in t.TOPICS} - {""} == set(SCHEMAS) - {"OrdersRequest"}
    assert {f"{t.PARTICIPANTS}/{{participant}}/{name}" for name in t.COMMANDS} <= {i.template for i in t.TOPICS}


@pytest.fixture
def start(tmp_path: Path) -> Any:
    need_mosquitto()
    started: list[Mosquitto] = []

    def start_one(acl: str, **options: Any) -> Mosquitto:
        mosquitto = Mosquitto(tmp_path / f"broker-{len(started)}", USERS, acl=acl, **options)
        started.append(mosquitto)
        return mosquitto.start()

    yield start_one
    for mosquitto in started:
        mosquitto.kill()


PASSWORDS = {name: USERS[name] for name in ("house-01", "house-02")}
EVERYTHING = "".join(f"user {name}\ntopic readwrite #\n\n" for name in USERS)


async def test_check_of_a_good_broker(start: Callable[..., Mosquitto]) -> None:
    for participants in (["house-01", "house-02"], None):
        mosquitto = start(acl_text(participants, "gateway"))
        found = await check_broker(BrokerSettings.from_url(mosquitto.url), PASSWORDS)
        assert [r for r in found if not r.ok] == []
        assert len(found) == 2 + 2 * (1 + 9)


async def test_check_finds_what_is_open(start: Callable[..., Mosquitto]) -> None:
    mosquitto = start(EVERYTHING)
    found = {r.name: r.ok for r in await check_broker(BrokerSettings.from_url(mosquitto.url), PASSWORDS)}
    assert found.pop("no anonymous clients") and found.pop("no wrong passwords")
    assert not any(found.values()) and "house-02 cannot read what is house-01's" in found

    own = "user house-01\ntopic readwrite peerwatt/v1/participants/house-01/#\n\nuser house-02\n"
    own += "topic readwrite peerwatt/v1/participants/house-02/#\ntopic read peerwatt/v1/participants/+/acks\n"
    own += "topic read peerwatt/v1/participants/house-01/check\n"
    mosquitto = start(own)
    bad = [r.name for r in await check_broker(BrokerSettings.from_url(mosquitto.url), PASSWORDS) if not r.ok]
    assert "house-02 cannot read what is house-01's" in bad and "house-01 cannot read what is house-02's" not in bad

    open_to_all = start(EVERYTHING, extra="allow_anonymous true")
    found = {r.name: r.ok for r in await check_broker(BrokerSettings.from_url(open_to_all.url), PASSWORDS)}
    assert not found["no anonymous clients"]


async def test_check_says_when_there_is_nothing_to_check(start: Callable[..., Mosquitto]) -> None:
    mosquitto = start(acl_text(["house-01"], "gateway"))
    settings = BrokerSettings.from_url(mosquitto.url)
    with pytest.raises(ServiceError, match="does not take us"):
        await check_broker(settings, {"house-01": "wrong", "house-02": "wrong"})
    mosquitto.kill()
    with pytest.raises(ServiceError, match="does not take us"):
        await check_broker(settings, {})


# --- the command ------------------------------------------------------------------------------------------------------


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()

    def add(commands: Any, name: str, summary: str, handler: Callable[..., int]) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(name, help=summary)
        command.set_defaults(handler=handler)
        return command

    add_mqtt(commands, add)
    args = parser.parse_args(["mqtt", *words])
    result: int = args.handler(args)
    return result


def test_command_acl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("acl", "--participants", "house-01, house-02", "--operator", "gateway") == 0
    assert capsys.readouterr().out == acl_text(["house-01", "house-02"], "gateway")
    file = tmp_path / "acl"
    assert run("acl", "--everybody", "--out", str(file)) == 0
    assert file.read_text() == acl_text(None, "peerwatt")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(ServiceError, match="cannot be written"):
        run("acl", "--everybody", "--out", str(tmp_path / "no" / "acl"))
    with pytest.raises(ServiceError, match="no participant"):
        run("acl", "--participants", ",")


@pytest.mark.slow
def test_command_acl_of_a_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    from peerwatt.prepare.prepare import prepare
    from peerwatt.scenario import load_scenario

    assert run("acl", "--scenario", "street5") == 0
    users = set(rules(capsys.readouterr().out))
    assert users == {"peerwatt", *prepare(load_scenario("street5")).building_ids}


def test_command_topics_and_schemas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("topics") == 0
    text = capsys.readouterr().out
    assert "participants/{participant}/orders" in text
    assert run("topics", "--json") == 0
    assert [row["template"] for row in json.loads(capsys.readouterr().out)] == [info.template for info in t.TOPICS]
    assert run("schemas", "Ack") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Ack"
    assert run("schemas", "--out", str(tmp_path / "schemas")) == 0
    assert {f.stem for f in (tmp_path / "schemas").iterdir()} == set(SCHEMAS)
    with pytest.raises(ServiceError, match="no payload"):
        run("schemas", "Nonsense")


def test_command_check(start: Callable[..., Mosquitto], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mosquitto = start(acl_text(["house-01", "house-02"], "gateway"))
    file = tmp_path / "two"
    file.write_text("# two of them\n" + "".join(f"{name}:{word}\n" for name, word in PASSWORDS.items()))
    assert run("check", mosquitto.url, "--passwords", str(file), "--json") == 0
    assert all(row["ok"] for row in json.loads(capsys.readouterr().out))
    assert run("check", mosquitto.url) == 0
    assert "no anonymous clients" in capsys.readouterr().out
    open_to_all = start(EVERYTHING, extra="allow_anonymous true")
    assert run("check", open_to_all.url, "--passwords", str(file)) == 1
    assert "FAILED" in capsys.readouterr().out
    file.write_text("house-01:$7$101$hash\n")
    with pytest.raises(ServiceError, match="NAME:PASSWORD"):
        run("check", mosquitto.url, "--passwords", str(file))
