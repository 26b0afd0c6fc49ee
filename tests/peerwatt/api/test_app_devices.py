"""Devices over HTTP: what is measured with its quality, set-points that expire, who may, and no guardian."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from core import Quality
from peerwatt.api.app import create_app
from tests.peerwatt.api.app_world import WALL, World, world
from tests.peerwatt.devices.stand_in import StandIn, reading

SET = {"control": "limit_w", "value": 2_000, "expires_s": 30}


async def post(made: World, who: str | None, path: str, body: Any, key: str | None = "k1", **headers: str) -> Any:
    if key is not None:
        headers["Idempotency-Key"] = key
    async with made.client(who, **headers) as client:
        return await client.post(path, json=body)


async def get(made: World, who: str, path: str) -> httpx.Response:
    async with made.client(who) as client:
        return await client.get(path)


@pytest.mark.slow
async def test_r13_http_a_failed_read_is_never_0(tmp_path: Path) -> None:
    """Null with its reason, an old value with its old time: never 0, never an old value with a new stamp."""
    guardian = StandIn()
    async with world(tmp_path, devices=guardian) as made:
        guardian.readings = {
            "w": reading(None, Quality.COMM_FAIL, reason="no answer within 0.5 s"),
            "hz": reading(None, Quality.NOT_IMPLEMENTED, reason="the device has no such point"),
            "soc": reading(0.5, Quality.STALE, age_s=12.0, reason="12 s old"),
            "v_a": reading(231.25, Quality.FROZEN, reason="the same 60 times"),
            "va": reading(99_000.0, Quality.IMPLAUSIBLE, reason="10 times the rating"),
            "var": reading(0.0),
        }
        told = (await get(made, "technician", "/devices/bench-1")).json()
        figures = (await get(made, "technician", "/metrics")).text
    found = {one["name"]: one for one in told["readings"]}
    assert found["w"] | {"source_time": "", "age_ms": 0} == {
        "name": "w", "value": None, "unit": "W", "quality": "comm-fail", "source_time": "", "age_ms": 0,
        "reason": "no answer within 0.5 s",
    }  # fmt: skip
    assert (found["hz"]["value"], found["hz"]["quality"]) == (None, "not-implemented")
    assert (found["soc"]["value"], found["soc"]["unit"], found["soc"]["quality"]) == (500, "1/1000", "stale")
    assert 12_000 <= found["soc"]["age_ms"] < 22_000
    stamp = WALL.timestamp() - found["soc"]["age_ms"] / 1000
    assert abs(stamp - _seconds(found["soc"]["source_time"])) < 0.01, "an old value keeps its old time"
    assert (found["v_a"]["value"], found["v_a"]["unit"], found["v_a"]["quality"]) == (231_250, "mV", "frozen")
    assert (found["var"]["value"], found["var"]["quality"]) == (0, "good"), "a 0 that was read is a value"
    assert told["quality"] == "comm-fail"
    samples = {
        (sample.name, sample.labels.get("quality"), sample.labels.get("reading")): sample.value
        for family in text_string_to_metric_families(figures)
        for sample in family.samples
        if sample.name.startswith("peerwatt_device")
    }
    assert not any(name == "peerwatt_device_power_watts" for name, _, _ in samples), "no number is better than a lie"
    for old in ("state_of_charge_ratio", "voltage_volts", "apparent_power_voltamperes"):
        assert not any(name == f"peerwatt_device_{old}" for name, _, _ in samples), "a scrape would date it anew"
    assert samples["peerwatt_device_reactive_power_vars", None, None] == 0.0
    assert samples["peerwatt_device_reading_good", None, "w"] == 0.0
    assert samples["peerwatt_device_reading_good", None, "soc"] == 0.0
    assert samples["peerwatt_device_reading_quality", "stale", "soc"] == 1.0
    assert samples["peerwatt_device_reading_quality", "comm-fail", "w"] == 1.0
    assert 12.0 <= samples["peerwatt_device_reading_age_seconds", None, "soc"] < 22.0
    assert samples["peerwatt_device_reading_good", None, "var"] == 1.0


def _seconds(time: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(time).timestamp()


async def test_r24_a_set_point_expires_and_is_asked_for_as_the_caller(tmp_path: Path) -> None:
    guardian = StandIn()
    async with world(tmp_path, devices=guardian) as made:
        answer = await post(made, "technician", "/devices/bench-1:set-point", SET)
        again = await post(made, "technician", "/devices/bench-1:set-point", SET)
        shown = (await get(made, "technician", "/devices/bench-1")).json()["controls"]
    assert answer.status_code == 200, answer.text
    assert answer.json() | {"lease": ""} == {
        "device": "bench-1", "control": "limit_w", "value": 2_000, "unit": "W", "expires_in_ms": 30_000, "lease": "",
        "level": "person", "message": "", "holds": True,
    }  # fmt: skip
    assert again.json() == answer.json(), "the same key, the same request: the first answer again"
    assert "idempotent-replayed" not in answer.headers and again.headers["idempotent-replayed"] == "true"
    asked = [fields for what, fields in guardian.asked if what == "hold"]
    assert asked[0]["owner"] == "http:the-technician"
    assert (asked[0]["level"], asked[0]["ttl_s"]) == ("person", 30.0)
    assert len(asked) == 1, "nothing is asked of the guardian a second time"
    assert next(c for c in shown if c["control"] == "limit_w")["owner"] == "http:the-technician"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"expires_s": 61}, 422),
        ({"expires_s": 0}, 422),
        ({"expires_s": None}, 422),
        ({"value": 2.5}, 422),
        ({"value": "2000"}, 422),
        ({"control": "volts"}, 422),
        ({"value": 10_001}, 422),
        ({"value": -1}, 422),
        ({"forever": True}, 422),
    ],
)
async def test_r24_what_may_not_be_is_refused_before_the_device(
    tmp_path: Path, change: dict[str, Any], status: int
) -> None:
    guardian = StandIn()
    async with world(tmp_path, devices=guardian) as made:
        answer = await post(made, "technician", "/devices/bench-1:set-point", SET | change)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert not guardian.held


async def test_r24_expiry_and_key_are_compulsory(tmp_path: Path) -> None:
    guardian = StandIn()
    async with world(tmp_path, devices=guardian) as made:
        without_key = await post(made, "technician", "/devices/bench-1:set-point", SET, key=None)
        body = {name: value for name, value in SET.items() if name != "expires_s"}
        without_expiry = await post(made, "technician", "/devices/bench-1:set-point", body)
    assert (without_key.status_code, without_key.json()["code"]) == (400, "missing_idempotency_key")
    assert without_expiry.status_code == 422
    assert not guardian.held


@pytest.mark.parametrize("who", ["resident", "aggregator", "meter", "auditor"])
async def test_r24_others_may_not(tmp_path: Path, who: str) -> None:
    guardian = StandIn()
    async with world(tmp_path, devices=guardian) as made:
        answers = [
            await post(made, who, path, body)
            for path, body in (
                ("/devices/bench-1:set-point", SET),
                ("/devices/bench-1:release", {"control": "limit_w"}),
                ("/devices/bench-1:mode", {"mode": "observe"}),
                ("/devices:stop", {"reason": "x"}),
            )
        ]
    assert [answer.status_code for answer in answers] == [403] * 4
    assert not guardian.asked


async def token(made: World, scope: str) -> str:
    secret = await made.registry.clients.add_key("the-technician")
    form = {"grant_type": "client_credentials", "client_id": "the-technician", "client_secret": secret.text}
    async with made.client(None) as client:
        answer = await client.post("/oauth/token", data=form | {"scope": scope})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


async def test_r24_a_read_only_token_cannot_write(tmp_path: Path) -> None:
    guardian = StandIn()
    async with world(tmp_path, devices=guardian) as made:
        bearer = {"Authorization": f"Bearer {await token(made, 'devices:read')}"}
        async with made.client(None, **bearer) as client:
            assert (await client.get("/devices")).status_code == 200
            answer = await client.post(
                "/devices/bench-1:set-point", json=SET, headers={"Idempotency-Key": "k"}
            )  # fmt: skip
            stopped = await client.post("/devices:stop", json={"reason": "x"})
    assert (answer.status_code, stopped.status_code) == (403, 403)
    assert "devices:control" in answer.json()["detail"]
    assert not guardian.held and not any(what == "stop" for what, _ in guardian.asked)


async def test_r24_an_expired_token_cannot_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    from tests.peerwatt.api import app_world

    guardian = StandIn()
    async with world(tmp_path, devices=guardian) as made:
        bearer = {"Authorization": f"Bearer {await token(made, 'devices:read devices:control')}"}
        async with made.client(None, **bearer) as client:
            good = await client.post("/devices/bench-1:set-point", json=SET, headers={"Idempotency-Key": "k"})
            monkeypatch.setattr(app_world, "WALL", WALL + timedelta(minutes=16))
            late = await client.post("/devices/bench-1:set-point", json=SET, headers={"Idempotency-Key": "l"})
    assert (good.status_code, late.status_code) == (200, 401)


async def test_who_holds_it_is_told(tmp_path: Path) -> None:
    async with world(tmp_path, devices=StandIn()) as made:
        first = await post(made, "technician", "/devices/bench-1:set-point", SET)
        operator = await post(made, "operator", "/devices/bench-1:set-point", SET | {"value": 1_000}, key="k2")
        loser = await post(made, "technician", "/devices/bench-1:set-point", SET | {"value": 3_000}, key="k3")
        reused = await post(made, "technician", "/devices/bench-1:set-point", SET | {"value": 7_000}, key="k1")
    assert (first.status_code, operator.status_code) == (200, 200), "an operator stands higher than a person"
    assert (loser.status_code, loser.json()["code"]) == (409, "device_held")
    assert "http:the-operator" in loser.json()["detail"]
    assert (reused.status_code, reused.json()["code"]) == (409, "key_reused")


SET_PATH = "/devices/bench-1:set-point"


@pytest.mark.parametrize("after", ["released", "expired", "replaced", "disarmed", "overruled"])
async def test_a_key_whose_lease_is_over_does_not_look_alive(tmp_path: Path, after: str) -> None:
    guardian, now_s = StandIn(), [100.0]
    async with world(tmp_path, devices=guardian, elapsed_s=lambda: now_s[0]) as made:
        first = await post(made, "technician", SET_PATH, SET)
        now_s[0] += 10.0
        alive = await post(made, "technician", SET_PATH, SET)
        if after == "released":
            await post(made, "technician", "/devices/bench-1:release", {"control": "limit_w"})
        elif after == "expired":
            now_s[0] += 20.0
        elif after == "replaced":
            await post(made, "technician", SET_PATH, SET | {"value": 3_000}, key="k2")
        elif after == "disarmed":
            guardian.held.clear()
        else:
            await post(made, "operator", SET_PATH, SET | {"value": 1_000}, key="k2")
        held = dict(guardian.held)
        over = await post(made, "technician", SET_PATH, SET)
    told = first.json()
    assert alive.json() == told | {"expires_in_ms": 20_000}
    assert (over.status_code, over.headers["idempotent-replayed"]) == (200, "true")
    assert over.json() == told | {"expires_in_ms": 0, "holds": False}
    assert guardian.held == held, "nothing was granted anew"


async def test_a_key_of_before_a_restart_does_not_look_alive(tmp_path: Path) -> None:
    """The service does not know the key; the guardian does, and answers with the rest of a lease that it dropped."""

    class Remembering(StandIn):
        async def hold(self, *args: Any, **named: Any) -> Any:
            return replace(await super().hold(*args, **named), expires_in_s=12.5)

        async def devices(self) -> list[dict[str, Any]]:
            self.held.clear()
            return await super().devices()

    async with world(tmp_path, devices=Remembering()) as made:
        answer = await post(made, "technician", SET_PATH, SET)
    assert answer.headers["idempotent-replayed"] == "true"
    assert (answer.json()["expires_in_ms"], answer.json()["holds"]) == (0, False)


@pytest.mark.parametrize("who", ["auditor", "operator", "grid", "technician"])
async def test_who_watches_sees_devices(tmp_path: Path, who: str) -> None:
    async with world(tmp_path, devices=StandIn()) as made:
        assert (await get(made, who, "/devices")).status_code == 200
        assert (await get(made, who, "/devices/bench-1")).json()["device"] == "bench-1"


async def test_a_meter_is_not_counted_as_brought_to_safety(tmp_path: Path) -> None:
    guardian = StandIn(modes={"bench-1": "armed", "meter-1": "observe"})
    async with world(tmp_path, devices=guardian) as made:
        answer = await post(made, "technician", "/devices:stop", {"reason": "smoke"}, key=None)
    told = answer.json()
    assert (told["devices"], told["safe"], told["without_controls"]) == (2, 1, 1)


async def test_release_gives_back_what_one_holds(tmp_path: Path) -> None:
    guardian = StandIn()
    async with world(tmp_path, devices=guardian) as made:
        await post(made, "technician", "/devices/bench-1:set-point", SET)
        other = await post(made, "admin", "/devices/bench-1:release", {"control": "limit_w"})
        own = await post(made, "technician", "/devices/bench-1:release", {"control": "limit_w"})
    assert (other.status_code, own.status_code, own.content) == (404, 204, b"")
    assert not guardian.held


async def test_modes_go_down_only(tmp_path: Path) -> None:
    guardian = StandIn()
    async with world(tmp_path, devices=guardian) as made:
        armed = await post(made, "operator", "/devices/bench-1:mode", {"mode": "armed"})
        down = await post(made, "operator", "/devices/bench-1:mode", {"mode": "observe"})
        up = await post(made, "operator", "/devices/bench-1:mode", {"mode": "rehearse"})
        refused = await post(made, "operator", "/devices/bench-1:set-point", SET)
        every = await post(made, "operator", "/devices/all:mode", {"mode": "observe"})
    assert (armed.status_code, down.status_code, up.status_code) == (422, 200, 403)
    assert down.json() == {"device": "bench-1", "mode": "observe"}
    assert (refused.status_code, refused.json()["code"]) == (409, "device_not_armed")
    assert every.status_code == 404


async def test_stop_is_handed_on(tmp_path: Path) -> None:
    guardian = StandIn()
    async with world(tmp_path, devices=guardian) as made:
        answer = await post(made, "technician", "/devices:stop", {"reason": "smoke"}, key=None)
        shown = (await get(made, "technician", "/devices")).json()
    assert answer.json() == {
        "ok": True, "devices": 1, "safe": 1, "without_controls": 0, "failed": {},
        "unconfirmed_power": {}, "unmeasured": {}, "took_ms": 180,
    }  # fmt: skip
    assert ("stop", {"reason": "smoke", "who": "http:the-technician"}) in guardian.asked
    assert shown["devices"][0]["mode"] == "lockout"


@pytest.mark.parametrize("away", [True, False])
async def test_without_a_guardian_it_says_what_to_do(tmp_path: Path, *, away: bool) -> None:
    async with world(tmp_path, devices=StandIn(away=True)) as made:
        if not away:
            made.app = create_app(replace(made.service, devices=None), hosts=())
        answers = [
            await get(made, "technician", "/devices"),
            await get(made, "technician", "/devices/bench-1"),
            await post(made, "technician", "/devices/bench-1:set-point", SET),
            await post(made, "technician", "/devices:stop", {"reason": "x"}),
        ]
        figures = (await get(made, "technician", "/metrics")).text
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (503, "no_guardian"), answer.text
        assert ("--guardian" in answer.json()["detail"]) is not away
        assert answer.headers["retry-after"] == "5"
    assert ("peerwatt_guardian_up 0.0" in figures) is away


async def test_figures_of_guardian_and_devices(tmp_path: Path) -> None:
    async with world(tmp_path, devices=StandIn()) as made:
        figures = (await get(made, "technician", "/metrics")).text
    assert 'peerwatt_device_power_watts{building="house-01",device="bench-1"} -5000.4' in figures
    assert "peerwatt_guardian_cycle_overruns_total 3.0" in figures
    assert 'peerwatt_guardian_armed{device="bench-1"} 1.0' in figures


async def test_numbers_are_whole(tmp_path: Path) -> None:
    """No number on the wire is a float."""
    async with world(tmp_path, devices=StandIn()) as made:
        text = (await get(made, "technician", "/devices")).text

    def no_float(found: str) -> Any:
        raise AssertionError(found)

    device = json.loads(text, parse_float=no_float)["devices"][0]
    assert {r["name"]: r["value"] for r in device["readings"]} == {"w": -5_000, "soc": 505}
