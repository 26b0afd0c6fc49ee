"""Devices of the site's guardian: looked at, told something for a while, stopped. All of it is the guardian's to do.

Nothing in here writes to a device: a set-point is a lease that the guardian grants or not, with the caller as owner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from core.errors import DeviceError
from peerwatt import wire
from peerwatt.api.failures import failure, unknown
from peerwatt.api.operation import Answer, Call, Group
from peerwatt.api.problems import Refusal, refuse
from peerwatt.devices.wire_form import device_out, from_wire, to_wire, wire_unit

if TYPE_CHECKING:
    from controllers.guardian.client import LeaseAnswer
    from core.quality import Reading
    from peerwatt.api.service import DevicesPort
    from peerwatt.api.set_points import Answered

routes = Group("Devices")
READ, CONTROL, STOP = "devices:read", "devices:control", "devices:stop"

_STATUS: Mapping[str, tuple[int, str]] = {
    "held": (409, "Somebody else holds it"),
    "out-of-range": (422, "The device cannot be told that"),
    "not-armed": (409, "The device is not armed"),
    "not-commissioned": (409, "The device is not commissioned"),
    "bad-request": (422, "The guardian does not understand it"),
    "locked-out": (409, "The device is locked out"),
    "unavailable": (503, "The device cannot be reached"),
}
"""Answers to the guardian's refusals, by their code."""

T = TypeVar("T")

_LOOK_S = 1.0


def _guardian(call: Call) -> DevicesPort:
    found = call.service.devices
    if found is None:
        raise _no_guardian("the service was started without one: start it with --guardian SOCKET")
    return found


def _no_guardian(detail: str) -> Refusal:
    return failure(503, "no_guardian", "No guardian answers for the devices", detail, [("Retry-After", "5")])


def _refused(code: str, message: str) -> Refusal:
    if code == "key-reused":
        return refuse("key_reused", message)
    if code == "unknown":
        return failure(404, "unknown_device", "There is no such device or control", message)
    status, title = _STATUS.get(code, (503, "The guardian refuses it"))
    headers = [("Retry-After", "5")] if status == 503 else []
    return failure(status, f"device_{code.replace('-', '_')}", title, message, headers)


async def _asked(asking: Awaitable[T]) -> T:
    """What the guardian answers; its refusals and its absence as problems."""
    from controllers.guardian.client import GuardianError

    try:
        return await asking
    except GuardianError as error:
        raise _refused(error.code, error.message) from error
    except DeviceError as error:
        raise _no_guardian(f"{error.message}; {error.remedy}" if error.remedy else error.message) from error


async def _readings(port: DevicesPort, device: str) -> Mapping[str, Reading]:
    return await _asked(port.measure(device))


def _owner(call: Call) -> str:
    return f"http:{call.caller.client_id}"


def _level(call: Call) -> str:
    """Who runs a market or a grid acts as an operator, everybody else as a person."""
    return "operator" if call.caller.may("market:operate") else "person"


@routes.get(
    "/devices", "listDevices", "Every device with its mode, its readings and who holds its controls",
    scope=READ, answer=wire.DevicesOut, problems=(404,),
    description="A value that could not be read is null and says why: never 0, never an old one with a new time.",
)  # fmt: skip
async def list_devices(call: Call) -> Answer:
    """All at once: there are as many as one guardian serves."""
    port = _guardian(call)
    found = await _asked(port.devices())
    readings = await asyncio.gather(*(_readings(port, str(one["id"])) for one in found))
    now_s, wall_us = asyncio.get_running_loop().time(), call.service.wall()
    return Answer(wire.DevicesOut([device_out(one, r, now_s, wall_us) for one, r in zip(found, readings, strict=True)]))


@routes.get("/devices/{device}", "getDevice", "One device", scope=READ, answer=wire.DeviceOut, problems=(404,))
async def get_device(call: Call) -> Answer:
    """As in the list."""
    port, name = _guardian(call), call.path["device"]
    found = next((one for one in await _asked(port.devices()) if one["id"] == name), None)
    if found is None:
        raise unknown("device", name)
    readings = await _readings(port, name)
    return Answer(device_out(found, readings, asyncio.get_running_loop().time(), call.service.wall()))


@routes.post(
    "/devices/{device}:set-point", "setDevicePoint", "Have a device do something for a while",
    scope=CONTROL, body=wire.SetPointIn, answer=wire.SetPointOut, keyed=True, problems=(404, 409),
    description="A lease of the guardian, of 60 s at most: say it again to go on. The higher step of the ladder wins.",
)  # fmt: skip
async def set_point(call: Call) -> Answer:
    """Refused with the holder's name where somebody on the same step or above holds the control."""
    body: wire.SetPointIn = call.body
    name, level = call.path["device"], _level(call)
    port, client = _guardian(call), call.caller.client_id
    known = call.service.set_points.known(client, call.idempotency, call.service.elapsed_s())
    if known is not None:
        return await _again(call, known)
    asking = port.hold(
        name,
        body.control,
        from_wire(body.control, body.value),
        level=level,
        owner=_owner(call),
        ttl_s=float(body.expires_s),
        key=f"{client}:{call.idempotency.key.hex()}",
    )
    answer: LeaseAnswer = await _asked(asking)
    if not answer.granted:
        raise _refused(answer.code, _with_holder(answer))
    found, repeated = call.service.set_points.keep(
        (client, name, body.control), call.idempotency, answer, float(body.expires_s), call.service.elapsed_s()
    )
    if repeated:
        return await _again(call, found)
    return Answer(_set_point_out(call, answer, answer.expires_in_s, holds=True))


async def _again(call: Call, known: Answered) -> Answer:
    """The first answer once more, and what has become of it: nothing is asked of the device."""
    body: wire.SetPointIn = call.body
    if known.request != call.idempotency.request:
        raise refuse("key_reused", "the key was used for another set-point: use a new one")
    left_s = known.left_s(call.service.elapsed_s())
    holds = False
    if left_s > 0.0:
        found = {str(one["id"]): one["controls"] for one in await _asked(_guardian(call).devices())}
        control = found.get(call.path["device"], {}).get(body.control, {})
        holds = control.get("owner") == _owner(call) and call.service.set_points.is_latest(known)
    return Answer(_set_point_out(call, known.answer, left_s if holds else 0.0, holds=holds), repeated=True)


def _set_point_out(call: Call, answer: LeaseAnswer, left_s: float, *, holds: bool) -> wire.SetPointOut:
    body: wire.SetPointIn = call.body
    return wire.SetPointOut(
        device=call.path["device"],
        control=body.control,
        value=to_wire(body.control, answer.value) or 0,
        unit=wire_unit(body.control).unit,
        expires_in_ms=round(left_s * 1000),
        lease=answer.lease,
        level=_level(call),
        message=answer.message,
        holds=holds,
    )


def _with_holder(answer: LeaseAnswer) -> str:
    if answer.holder is None:
        return answer.message
    return f"{answer.message} (held by {answer.holder.get('owner')}, level {answer.holder.get('level')})"


@routes.post(
    "/devices/{device}:release", "releaseDevice", "Give a control back before its time",
    scope=CONTROL, body=wire.ReleaseIn, status=204, problems=(404, 409),
)  # fmt: skip
async def release(call: Call) -> Answer:
    """Only what the caller holds itself."""
    body: wire.ReleaseIn = call.body
    name = call.path["device"]
    if not await _asked(_guardian(call).release(name, body.control, _owner(call))):
        raise unknown("lease", f"you hold no {body.control} of {name}; it may have expired")
    return Answer()


@routes.post(
    "/devices/{device}:mode", "setDeviceMode", "Disarm a device",
    scope=CONTROL, body=wire.DeviceModeIn, answer=wire.DeviceModeOut, problems=(404, 409),
    description="Only towards less: arming is done beside the device, at the guardian, by a person who can see it.",
)  # fmt: skip
async def set_mode(call: Call) -> Answer:
    """Observe or rehearse."""
    body: wire.DeviceModeIn = call.body
    name = call.path["device"]
    if name == "all":
        raise unknown("device", name)
    port = _guardian(call)
    found = next((one for one in await _asked(port.devices()) if one["id"] == name), None)
    if found is None:
        raise unknown("device", name)
    if found["mode"] == "observe" and body.mode == "rehearse":
        raise refuse("forbidden", "from observe to rehearse is towards arming: do it at the guardian")
    modes = await _asked(port.mode(name, body.mode, _owner(call)))
    return Answer(wire.DeviceModeOut(name, modes[name]))  # type: ignore[arg-type]


@routes.post(
    "/devices:stop", "stopDevices", "Stop every device, at once",
    scope=STOP, body=wire.StopIn, answer=wire.StopOut, group="stop",
    description="Handed to the guardian's stop socket. Latched: a named person clears it at the guardian. It is no "
    "emergency stop in the sense of a standard.",
)  # fmt: skip
async def stop_devices(call: Call) -> Answer:
    """It waits for nothing of the market."""
    body: wire.StopIn = call.body
    port = _guardian(call)
    found = await _asked(port.stop(body.reason, _owner(call)))
    deaf = await _without_controls(port)
    return Answer(
        wire.StopOut(
            ok=bool(found["ok"]),
            devices=int(found["devices"]),
            safe=int(found["safe"]) - sum(name not in found["failed"] for name in deaf or ()),
            without_controls=None if deaf is None else len(deaf),
            failed=_by_device(found, "failed"),
            unconfirmed_power=_by_device(found, "unconfirmed_power"),
            unmeasured=_by_device(found, "unmeasured"),
            took_ms=round(float(found["took_s"]) * 1000),
        )
    )


def _by_device(found: Mapping[str, Any], key: str) -> dict[str, str]:
    """Reasons by device; empty where the guardian had nothing to say."""
    return {str(name): str(why) for name, why in found.get(key, {}).items()}


async def _without_controls(port: DevicesPort) -> list[str] | None:
    """Devices that a stop cannot bring anywhere, since they cannot be told anything; asked when the stop is done."""
    try:
        async with asyncio.timeout(_LOOK_S):
            return [str(one["id"]) for one in await port.devices() if not one["controls"]]
    except (DeviceError, TimeoutError):
        return None
