"""schemathesis over the whole OpenAPI document, against an application on its own event loop in another thread."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.checks import CheckContext
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from peerwatt.api.app import OPERATIONS
from tests.peerwatt.api.app_world import HOUSES, World, slot_name, world

DOCUMENT = "/api/v1/openapi.json"
MALFORMED = ("malformed_body", "malformed_request", "invalid", "unsupported_media_type", "missing_idempotency_key")
_GOOD = ["2xx", "3xx", "400", "401", "403", "404", "409", "412", "422", "428", "429"]
_BAD = ["400", "401", "403", "404", "405", "409", "412", "413", "414", "415", "422", "428", "429"]

DICTIONARIES = {
    "markets": ["spot", "intraday"],
    "slots": [slot_name(s) for s in (0, 1, 4, 5, 8, 9, 90)],
    "participants": list(HOUSES),
    "clients": ["agg", "reader", "the-grid", f"{HOUSES[3]}~resident"],
    "small": ["1", "2", "3"],
    "prices": [100_000, 200_000, 250_000],
    "wh": [10, 500],
    "devices": ["bench-1"],
    "periods": ["2016-06"],
    "controls": ["limit_w", "power_w"],
}
BINDINGS = {
    "path.market": "markets",
    "path.slot": "slots",
    "path.participant": "participants",
    "path.client": "clients",
    "path.publication": "small",
    "path.dispute": "small",
    "path.contract": "small",
    "path.order_id": "small",
    "path.seq": "small",
    "path.device": "devices",
    "path.period": "periods",
    "body.control": "controls",
    "query.participant": "participants",
    "query.from": "slots",
    "query.to": "slots",
    "query.at": "slots",
    "body.slot": "slots",
    "body.participant": "participants",
    "body.participants[*]": "participants",
    "body.with": "participants",
    "body.confirm": "participants",
    "body.from": "slots",
    "body.to": "slots",
    "body.price_u": "prices",
    "body.e_wh": "wh",
    "body.orders[*].slot": "slots",
    "body.orders[*].price_u": "prices",
    "body.orders[*].e_wh": "wh",
    "body.readings[*].slot": "slots",
    "body.readings[*].participant": "participants",
    "body.envelopes[*].participant": "participants",
    "body.envelopes[*].from": "slots",
    "body.envelopes[*].to": "slots",
}


STOPPING = (
    "suspendAll", "suspendMarket", "voidSlot", "declareDefault", "removeParticipant", "eraseParticipant", "setTerms",
)  # fmt: skip
"""After these little else succeeds: they have their turn when the others have had theirs."""


@schemathesis.check
def what_the_document_allows_is_well_formed(ctx: CheckContext, response: Any, case: Any) -> None:
    """A request of the right form may be refused for what it means, never for its form."""
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive or response.status_code not in (400, 415, 422):
        return
    if case.path == "/api/v1/oauth/token":
        return  # has OAuth's own errors
    problem = response.json()
    if problem["code"] not in MALFORMED:
        return
    errors = problem.get("errors", ())
    if any("got `float`" in error["detail"] for error in errors):
        return  # 5.0 is an integer to JSON Schema, and none to us
    if problem["code"] == "invalid" and [error["pointer"] for error in errors] in ([], ["/participant"]):
        return  # the registry's, or: say for which participant
    raise AssertionError(f"well formed, and yet: {problem}")


@dataclass
class Findings:
    """What a run came to: cases by operation and status, and failures in words."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """Requests made."""
        return self.statuses.total()

    def operations(self) -> set[str]:
        """Operations that were called."""
        return {label for label, _ in self.statuses}

    def succeeded(self) -> set[str]:
        """Operations that did at least once what they are for."""
        return {label for label, status in self.statuses if status < 400}


@contextmanager
def live(folder: Path) -> Iterator[tuple[World, Callable[..., Any]]]:
    """A world on its own loop, and an ASGI application for other loops that hands requests over to it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="market", daemon=True)
    thread.start()

    def there(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop)

    manager = world(folder, stream_valid_s=0.02)
    made = there(manager.__aenter__()).result(30)

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        for one in await asyncio.wrap_future(there(_answer(made.app, dict(scope), body))):
            await send(one)

    try:
        yield made, app
    finally:
        there(manager.__aexit__(None, None, None)).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _answer(app: Any, scope: MutableMapping[str, Any], body: bytes) -> list[MutableMapping[str, Any]]:
    sent: list[MutableMapping[str, Any]] = []
    parts = [{"type": "http.request", "body": body, "more_body": False}]
    never = asyncio.Event()

    async def receive() -> MutableMapping[str, Any]:
        if parts:
            return parts.pop()
        await never.wait()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope["headers"] = [(n, b"localhost" if n == b"host" else v) for n, v in scope["headers"]]
    await app(scope, receive, send)
    return sent


def attack(
    app: Callable[..., Any],
    key: str,
    *,
    examples: int,
    seed: int = 1,
    coverage: bool = True,
    stateful: bool = False,
    without: tuple[str, ...] = (),
) -> Findings:
    """Every operation of the document, with a key: examples, boundaries, well- and ill-formed requests, sequences."""
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "headers": {"X-API-Key": key},
            "dictionaries": {name: {"values": values} for name, values in DICTIONARIES.items()},
            "generation": {
                "deterministic": True,
                "database": "none",
                "max-examples": examples,
                "no-shrink": True,
                "with-security-parameters": False,  # a second credential is refused, and nothing else would be tried
            },
            "parameters": {where: {"dictionary": name, "probability": 0.8} for where, name in BINDINGS.items()},
            "checks": {
                "positive_data_acceptance": {"expected-statuses": _GOOD},
                "negative_data_rejection": {"expected-statuses": _BAD},
                "missing_required_header": {"expected-statuses": _BAD},
            },
            "phases": {"coverage": {"enabled": coverage}, "stateful": {"enabled": stateful, "max-steps": 6}},
        }
    )
    schema = schemathesis.openapi.from_asgi(DOCUMENT, app, config=config)
    if without:
        schema = schema.exclude(operation_id=list(without))
    found = Findings()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _note(found, event)
        elif isinstance(event, events.NonFatalError):
            found.failures.append(f"{event.label}: {event.info.format()}")
        elif isinstance(event, events.FatalError):
            raise event.exception
    return found


def _note(found: Findings, event: events.ScenarioFinished) -> None:
    recorder = event.recorder
    for case_id, interaction in recorder.interactions.items():
        node = recorder.cases.get(case_id)
        if node is not None and interaction.response is not None:
            found.statuses[node.value.operation.label, interaction.response.status_code] += 1
    for case_id, checks in recorder.checks.items():
        for check in checks:
            if check.failure_info is not None:
                case = recorder.cases[case_id].value
                failure = check.failure_info.failure
                found.failures.append(
                    f"{case.operation.label}: {check.name}: {failure.title}: {failure.message}\n{_told(case)}"
                )


def _told(case: Any) -> str:
    parts = {"path": case.path_parameters, "query": case.query, "headers": case.headers, "body": case.body}
    return json.dumps({name: repr(value)[:300] for name, value in parts.items()})


def labels() -> set[str]:
    """Every operation as schemathesis names it."""
    return {f"{operation.method} /api/v1{operation.path}" for operation in OPERATIONS}
