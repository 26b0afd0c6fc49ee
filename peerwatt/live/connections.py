"""Connections cost nothing to open and must not cost the market its life: how many there are, how long they dawdle."""

from __future__ import annotations

import asyncio
import resource

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 15.0
"""How long a client may take to say what it wants [s]."""

_RESERVED = 192
"""Files that the service itself needs: journal, vault, registry, history, broker, database."""

_MOST = 50_000


def most_connections() -> int:
    """How many connections the limit on open files leaves room for; the soft limit is raised as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST + _RESERVED if hard == resource.RLIM_INFINITY else min(hard, _MOST + _RESERVED)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return max(min(soft, wanted) - _RESERVED, 16)


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol with an end to its patience: with too many connections, and with heads that never end."""

    most: int = _MOST
    head_s: float = HEAD_S
    _hurry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come; beyond the limit it is sent away at once."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
            return
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Something came: the head of a request has to be whole in time."""
        super().data_received(data)
        if self._answering():
            self._be_patient()
        elif self._hurry is None and not self.transport.is_closing():
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._be_patient()
        super().connection_lost(exc)

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_head(self) -> None:
        self._hurry = self.loop.call_later(self.head_s, self._too_slow)

    def _be_patient(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None

    def _too_slow(self) -> None:
        self._hurry = None
        if not self._answering() and not self.transport.is_closing():
            self.transport.close()
