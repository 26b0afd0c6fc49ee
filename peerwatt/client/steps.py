"""What the client does for one call, step by step, without doing it: a generator that says what to send or how long to
wait, and is told what came of it. So both clients retry in the same way, and a test can play the network.

A request is sent again only if that can do no harm: because it can be repeated (it reads, or carries an idempotency
key, which stays the same), or because the server said, or the connection shows, that it was not taken.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from random import SystemRandom
from typing import TypeVar
from urllib.parse import urlencode

import httpx
import msgspec

from peerwatt.client.calls import Call, Reply, answer
from peerwatt.client.errors import ApiProblem, UnreachableError
from peerwatt.client.settings import OAuth, Settings
from peerwatt.wire.service import Problem, TokenOut

T = TypeVar("T")

_BUSY = frozenset({429, 503})
PASSING = frozenset({429, 502, 503, 504})
"""Refusals that may be over in a moment."""

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient a client is.

    Parameters
    ----------
    attempts
        Times a call is sent at most, the first included.
    first_s, most_s
        Pause before the second attempt [s], doubled for each further one up to ``most_s``; each is shortened at random
        by up to a half, so that many clients do not come back together.
    longest_wait_s
        A server that asks for more than this with ``Retry-After`` is not waited for.
    """

    attempts: int = 6
    first_s: float = 0.2
    most_s: float = 10.0
    longest_wait_s: float = 60.0

    def pause_s(self, failures: int) -> float:
        """Before the attempt after so many failed ones."""
        whole_s: float = min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return whole_s * (1 - 0.5 * _RANDOM.random())


PATIENT = RetryPolicy()
"""The default: some ten seconds."""

_RANDOM = SystemRandom()  # nothing that is recorded depends on it


@dataclass(frozen=True, slots=True)
class Send:
    """Send this request and tell the response, or the error of the connection."""

    request: httpx.Request


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait so long [s]."""

    pause_s: float


Outcome = httpx.Response | httpx.TransportError | None
Steps = Generator[Send | Wait, Outcome, T]


def new_key() -> str:
    """An idempotency key that nobody else makes: 128 random bits."""
    return secrets.token_hex(16)


class Core:
    """The part of a client that does not depend on how it waits."""

    def __init__(self, settings: Settings, policy: RetryPolicy, build: Callable[..., httpx.Request]) -> None:
        self.settings = settings
        self.policy = policy
        self._build = build
        self._token: str | None = None

    def steps(self, call: Call[T]) -> Steps[T]:
        """Send a call until it is answered.

        Raises
        ------
        ApiProblem
            If it is refused, also not taken after the last attempt.
        UnreachableError
            If there is no answer.
        BadAnswerError
            If the answer is none of this interface.
        """
        key = (call.key or new_key()) if call.keyed else None
        failures = 0
        renewed = call.asks_token
        while True:
            headers = {} if call.asks_token else (yield from self.authorisation())
            if key is not None:
                headers["Idempotency-Key"] = key
            request = self._request(call, headers)
            outcome = yield Send(request)
            if isinstance(outcome, httpx.Response):
                if outcome.is_success:
                    return call.read(Reply(outcome.content, outcome.headers))
                if not renewed and self.renews(outcome):
                    renewed = True
                    continue
            failures += 1
            pause_s = self._pause_s(call, outcome, failures)
            if pause_s is None:
                raise failure(request, outcome, attempts=failures, key=key)
            yield Wait(pause_s)

    def authorisation(self) -> Steps[dict[str, str]]:
        """The headers that say who it is; fetches a token where one is needed."""
        oauth = self.settings.oauth
        if oauth is not None and self._token is None:
            self._token = (yield from self.steps(_token_call(oauth))).access_token
        secret = self.settings.key or self._token
        return {} if secret is None else {"Authorization": f"Bearer {secret}"}

    def renews(self, response: httpx.Response) -> bool:
        """Whether a refusal may be an old token's; the next request then fetches a new one."""
        if response.status_code != HTTPStatus.UNAUTHORIZED or self.settings.oauth is None:
            return False
        self._token = None
        return True

    def _request(self, call: Call[T], headers: dict[str, str]) -> httpx.Request:
        kind = {"Content-Type": "application/json"} if call.body is not None else {}
        return self._build(
            call.method,
            f"{self.settings.base_url}/{call.path}",
            params=call.params or None,
            content=call.body,
            headers={"Accept": "application/json", **kind, **call.headers, **headers},
        )

    def _pause_s(self, call: Call[T], outcome: Outcome, failures: int) -> float | None:
        """How long to wait before another attempt [s]; None: there should be none."""
        if failures >= self.policy.attempts:
            return None
        own_s = self.policy.pause_s(failures)
        if not isinstance(outcome, httpx.Response):
            return own_s if call.repeatable or isinstance(outcome, _NOT_SENT) else None
        asked_s = retry_after_s(outcome)
        not_taken = outcome.status_code in _BUSY and asked_s is not None
        if not (not_taken or (call.repeatable and outcome.status_code in PASSING)):
            return None
        if asked_s is not None and asked_s > self.policy.longest_wait_s:
            return None
        return max(own_s, asked_s or 0.0)


def _token_call(oauth: OAuth) -> Call[TokenOut]:
    form = {"grant_type": "client_credentials", "client_id": oauth.client_id, "client_secret": oauth.client_secret}
    if oauth.scope:
        form["scope"] = oauth.scope
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return Call("POST", "oauth/token", answer(TokenOut), body=urlencode(form).encode(), headers=kind, asks_token=True)


def failure(
    request: httpx.Request, outcome: Outcome, *, attempts: int, key: str | None = None
) -> ApiProblem | UnreachableError:
    """The error to raise for what came of a request."""
    if isinstance(outcome, httpx.Response):
        return ApiProblem(problem_of(outcome), retry_after_s=retry_after_s(outcome), key=key)
    reason = str(outcome) or type(outcome).__name__
    sent = not isinstance(outcome, _NOT_SENT)
    url = str(request.url.copy_with(query=None))
    return UnreachableError(url, reason, attempts=attempts, maybe_done=sent and request.method != "GET", key=key)


def problem_of(response: httpx.Response) -> Problem:
    """The problem that a refusal states; one made of its status if it states none."""
    if "json" in response.headers.get("content-type", ""):
        try:
            return msgspec.json.decode(response.content, type=Problem)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    status = response.status_code
    title = response.reason_phrase or "refused"
    return Problem(type="about:blank", title=title, status=status, code=f"http_{status}", detail=response.text[:200])


def retry_after_s(response: httpx.Response) -> float | None:
    """How long the server asks to wait [s]. A date is read against the answer's own date, not this machine's clock."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        then, now = parsedate_to_datetime(value), parsedate_to_datetime(response.headers.get("date", ""))
        return max((then - now).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None
