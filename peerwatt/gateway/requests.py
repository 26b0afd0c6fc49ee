"""Requests of participants: which are let in, and where their answers go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

from core.errors import ServiceError
from hardware.mqtt import Incoming, Message, MqttLink
from peerwatt.gateway import topics as t
from peerwatt.gateway.intake import Intake, Port, key_in, problem
from peerwatt.gateway.news import DAY_S, encode
from peerwatt.gateway.payloads import Ack

_OVERLOAD_S = 1.0
_MAX_CORRELATION = 512
_ANSWERS = {"meters": ("acks", "meters/acks")}  # an account for meters alone cannot read the other answers


class RequestDesk:
    """Takes requests, one task each, and answers every one of them.

    A request counts as received, to the broker, when its answer has been delivered: if we fall over in between, it
    comes again and is answered again. Answers go to the participant's own topics and nowhere else.

    Parameters
    ----------
    engine, link
        Where requests go, and answers.
    max_under_way, max_of_one
        Requests that may wait, in all and of one participant; further ones are refused at once.
    """

    def __init__(self, engine: Port, link: MqttLink, *, max_under_way: int, max_of_one: int) -> None:
        self._intake = Intake(engine)
        self._link = link
        self._max_under_way = max_under_way
        self._max_of_one = max_of_one
        self._of: Counter[str] = Counter()
        self._answers: Counter[tuple[str, str]] = Counter()
        self.under_way = 0
        """Requests not answered yet."""

    def answers(self) -> Mapping[tuple[str, str], int]:
        """How many requests were answered how, by (topic, ``done``, ``partly`` or the code of the refusal)."""
        return dict(self._answers)

    async def take(self, participant: str, request: str, message: Incoming) -> None:
        """Deal with a message to one of a participant's command topics."""
        home = t.participant_topic(participant, "acks")
        if message.retain:
            if message.payload:  # an empty one takes back what was kept
                self._link.send(Message(message.topic, b"", retain=True))
                self._refuse(message, home, problem(request, "retained", key=key_in(message.payload)))
            return
        to = message.response_topic or home
        if not any(_within(t.participant_topic(participant, name), to) for name in _ANSWERS.get(request, ("acks",))):
            # We may publish anywhere and they may not.
            self._refuse(message, home, problem(request, "bad_response_topic", key=key_in(message.payload)))
        elif len(message.correlation or b"") > _MAX_CORRELATION:
            detail = f"correlation data of more than {_MAX_CORRELATION} bytes"
            self._refuse(message, home, problem(request, "too_large", detail, key=key_in(message.payload)))
        elif self.under_way >= self._max_under_way or self._of[participant] >= self._max_of_one:
            ack = problem(request, "overloaded", key=key_in(message.payload), retry_s=_OVERLOAD_S)
            self._refuse(message, to, ack)
        else:
            await self._carry_out(participant, request, message, to)

    async def _carry_out(self, participant: str, request: str, message: Incoming, to: str) -> None:
        self.under_way += 1
        self._of[participant] += 1
        try:
            ack = await self._intake.answer(participant, request, message.payload)
            with suppress(ServiceError):  # no room for it: the request is answered when it comes again
                await self._link.deliver(self._message(ack, to, message))
        finally:
            self.under_way -= 1
            self._of[participant] -= 1
            if not self._of[participant]:
                del self._of[participant]

    def _refuse(self, message: Incoming, to: str, ack: Ack) -> None:
        """Answer without waiting: what is refused here is not to hold up what is not."""
        self._link.send(self._message(ack, to, message))

    def _message(self, ack: Ack, to: str, request: Incoming) -> Message:
        self._answers[ack.request, ack.code or ack.status] += 1
        correlation = request.correlation
        if correlation is not None and len(correlation) > _MAX_CORRELATION:
            correlation = None
        return Message(to, encode(ack), expiry_s=DAY_S, correlation=correlation)


def _within(home: str, topic: str) -> bool:
    """Whether a topic is ``home`` or one below it that can be published to."""
    rest = topic.removeprefix(home + "/")
    return topic == home or (rest != topic and len(topic) < 1_000 and t.is_topic_name(rest.replace("/", "")))
