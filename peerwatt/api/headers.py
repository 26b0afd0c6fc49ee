"""The outermost layer of the service: which host was meant, what every answer says to browsers, and no error unseen.

``Shield(app, hosts=binding.hosts)`` around everything else. CORS is off: there is no header that would turn it on.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from peerwatt.api.principal import EXCHANGE, Exchange
from peerwatt.api.problems import Boundary, Refusal, refuse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
DOCS = ("/docs", "/redoc")
API_PREFIX = "/api/"

_ALWAYS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
_HSTS = (b"strict-transport-security", b"max-age=31536000")
_FOR_PAGES = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
_FOR_DATA = b"default-src 'none'; frame-ancestors 'none'"
_INLINE = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")


def docs_policy(page: bytes) -> bytes:
    """The content security policy of a page of the API's documentation.

    Swagger UI and ReDoc come from this server, but start with a script inside the page and make style elements: the
    scripts that stand in ``page``, and no others, are allowed by their hashes; images may be data, workers blobs.
    """
    hashes = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _INLINE.findall(page))
    scripts = "".join(f" 'sha256-{digest}'" for digest in hashes)
    more = f"; script-src 'self'{scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; worker-src blob:"
    return (_FOR_PAGES + more).encode()


class Shield:
    """Checks the Host header, adds strict headers and the rate limit's to every answer, and catches what is raised.

    Parameters
    ----------
    app
        The app inside.
    hosts
        Names and addresses the service goes by, without ports; those of this machine are always among them. A page of
        another site that has its name point here (DNS rebinding) is refused.
    docs
        Paths of the API's documentation pages.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str] = (), docs: Iterable[str] = DOCS) -> None:
        self._app = Boundary(app)
        self._hosts = {*LOCAL_HOSTS, *(_normal(host) for host in hosts)}
        self._docs = frozenset(docs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        wrong = self._wrong_host(scope)
        if scope["type"] == "websocket":
            if wrong is not None:
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send, page=scope["path"] in self._docs)
        if wrong is not None:
            await wrong.send(answer)
            return
        scope[EXCHANGE] = answer.exchange
        await self._app(scope, receive, answer)

    def _wrong_host(self, scope: Scope) -> Refusal | None:
        named = [value for name, value in scope["headers"] if name == b"host"]
        if len(named) != 1:
            return refuse("malformed_request", "one Host header is needed")
        found = _HOST.fullmatch(named[0].decode("latin-1").lower())
        if found is None:
            return refuse("malformed_request", "the Host header cannot be read")
        if found[1].rstrip(".") in self._hosts:
            return None
        return refuse("wrong_host", "the operator can add the name to the service's settings")


def _normal(host: str) -> str:
    host = host.lower().rstrip(".")
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


class _Answer:
    """``send`` of one request: puts in the headers when the answer starts."""

    __slots__ = ("_api", "_held", "_page", "_parts", "_secure", "_send", "exchange")

    def __init__(self, scope: Scope, send: Send, *, page: bool) -> None:
        self._send = send
        self._secure = scope["scheme"] == "https"
        self._api = scope["path"].startswith(API_PREFIX)
        self._page = page
        self._held: Message | None = None
        self._parts: list[bytes] = []
        self.exchange = Exchange()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            html = self._add(headers)
            message = {**message, "headers": headers}
            if html and self._page:
                self._held = message  # its policy depends on what stands in it
                return
        elif self._held is not None:
            self._parts.append(message.get("body", b""))
            if message.get("more_body", False):
                return
            page, start = b"".join(self._parts), self._held
            self._held = None
            start["headers"].append((b"content-security-policy", docs_policy(page)))
            await self._send(start)
            message = {"type": "http.response.body", "body": page}
        await self._send(message)

    def _add(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Add what the app did not say itself; whether the answer is a page."""
        said = dict(headers)
        html = said.get(b"content-type", b"").startswith(b"text/html")
        headers.extend(header for header in _ALWAYS if header[0] not in said)
        if b"content-security-policy" not in said and not (html and self._page):
            headers.append((b"content-security-policy", _FOR_PAGES.encode() if html else _FOR_DATA))
        if b"cache-control" not in said:
            headers.append((b"cache-control", b"no-store" if self._api else b"no-cache"))
        if self._secure:
            headers.append(_HSTS)
        standing = self.exchange.standing
        if standing is not None and b"ratelimit" not in said:
            headers.extend((name.lower().encode(), value.encode()) for name, value in standing.headers())
        return html
