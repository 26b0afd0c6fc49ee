"""Whether the service runs and is ready, what it is, what time it is, and its figures."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from market.journal.protocol import SCHEMA_VERSION
from peerwatt import wire
from peerwatt.api.metrics import CONTENT_TYPE, slot_states
from peerwatt.api.operation import Answer, Call, Group
from peerwatt.api.principal import is_local
from peerwatt.api.problems import Refusal, refuse
from peerwatt.devices.exposition import device_figures
from peerwatt.wire.times import time_text

routes = Group("Service")


@routes.get("/healthz", "getHealth", "Whether the service runs", answer=wire.HealthOut)
async def get_health(call: Call) -> Answer:
    """Always ok when it answers at all."""
    return Answer(wire.HealthOut("ok", seq=call.service.engine.head.seq))


@routes.get("/readyz", "getReadiness", "Whether the service takes requests", answer=wire.HealthOut)
async def get_readiness(call: Call) -> Answer:
    """503 while it starts, recovers, or has stopped because its journal cannot be written."""
    if trouble := call.service.trouble():
        raise refuse("unavailable", trouble, headers=[("Retry-After", "5")])
    return Answer(wire.HealthOut("ok", seq=call.service.engine.head.seq))


@routes.get("/version", "getVersion", "What runs", answer=wire.VersionOut)
async def get_version(call: Call) -> Answer:
    """Versions of the software, of this interface and of the journal's records."""
    return Answer(wire.VersionOut(software_version(), "v1", SCHEMA_VERSION))


@cache
def software_version() -> str:
    """Of the installed package."""
    return version("peerwatt")


@routes.get("/time", "getTime", "The market's time", answer=wire.TimeOut)
async def get_time(call: Call) -> Answer:
    """It may run faster than the wall clock."""
    service = call.service
    return Answer(wire.TimeOut(time_text(service.clock()), service.speed, time_text(service.wall())))


_METRICS = {"security": [{}, {"apiKey": []}, {"bearer": []}, {"oauth2": ["metrics:read"]}]}


@routes.get(
    "/metrics", "getMetrics", "The service's figures",
    answer=str, media=CONTENT_TYPE, problems=(401, 403, 429), describe=_METRICS,
    description="Prometheus' text format. Open to the machine itself; others need the scope metrics:read.",
)  # fmt: skip
async def get_metrics(call: Call) -> Answer:
    """What Prometheus scrapes."""
    if not is_local(call.asgi):
        found = call.service.guard.check(call.asgi, "metrics:read", "read")
        if isinstance(found, Refusal):
            raise found
    metrics = call.service.metrics
    metrics.slots(await call.service.engine.read(slot_states))
    return Answer(raw=metrics.text() + await _of_devices(call))


async def _of_devices(call: Call) -> bytes:
    """What the guardian's devices measure, and its own figures; that it is away, when it is."""
    port = call.service.devices
    return b"" if port is None else await device_figures(port)
