"""The service itself: participants, keys, audit, personal data, health, problems."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from peerwatt.wire.fields import NAME_PATTERN, ClientId, Digest, In, Out, Participant, Seq, Slot, Time

Role = Literal["resident", "aggregator", "meter", "operator", "grid", "auditor", "technician", "admin"]
MAX_ACTS_FOR = 1_000
Label = Annotated[str, Meta(max_length=200, description="For people to tell it by.", examples=["hall meter"])]


class MeOut(Out):
    """Who the server takes you for."""

    client_id: Annotated[str, Meta(description="Id of the key or client.", examples=["k7f3a"])]
    role: Annotated[str, Meta(description="Its role.", examples=["resident"])]
    scopes: Annotated[list[str], Meta(description="What it may do.", examples=[["market:read", "orders:write"]])]
    participants: Annotated[list[str], Meta(description="For whom it acts.", examples=[["house-07"]])]
    all_participants: Annotated[bool, Meta(description="Whether it may act for everybody.", examples=[False])] = False


class ParticipantIn(In):
    """A new member."""

    participant: Participant
    contract: Annotated[int, Meta(ge=0, le=2**31 - 1, description="Its retail tariff's place.", examples=[0])] = 0
    from_slot: Annotated[Slot | None, Meta(description="First slot; null: the next one to open.")] = None
    node: Annotated[int, Meta(ge=-1, le=2**31 - 1, description="Its place in the network; -1: none.")] = -1


class ParticipantOut(Out):
    """A member."""

    participant: Participant
    state: Annotated[str, Meta(description="active, left, defaulted or erased.", examples=["active"])]
    modelled: Annotated[bool, Meta(description="Whether the neighbourhood's model bids for it.", examples=[False])]
    contract: Annotated[int, Meta(description="Its retail tariff's place.", examples=[0])]
    from_slot: Slot
    to_slot: Annotated[Slot | None, Meta(description="It takes no part from here on; null: no end.")] = None


class KeyIn(In):
    """A new API key."""

    role: Annotated[Role, Meta(description="What it may do.", examples=["resident"])] = "resident"
    label: Label = ""
    expires_at: Annotated[Time | None, Meta(description="When it ends; null: when it is deleted.")] = None


class KeyOut(Out):
    """An API key. Its text is told once, when it is made; the server keeps only a hash of it."""

    key_id: Annotated[str, Meta(description="Its id: the middle of its text.", examples=["k7f3a"])]
    role: Annotated[str, Meta(description="What it may do.", examples=["resident"])]
    participants: Annotated[list[str], Meta(description="For whom it acts.", examples=[["house-07"]])]
    label: Label
    created_at: Time
    expires_at: Annotated[Time | None, Meta(description="When it ends.")] = None
    key: Annotated[str | None, Meta(description="The text itself, only in the answer that makes it.")] = None


NewClientId = Annotated[
    str,
    Meta(
        pattern=NAME_PATTERN,
        min_length=1,
        max_length=80,
        description="Its id, for good. Let it name a desk or a device, not a person: it may stand in the audit log.",
        examples=["grid-desk"],
    ),
]
Participants = Annotated[
    tuple[Participant, ...],
    Meta(
        max_length=MAX_ACTS_FOR,
        description="For whom it acts, by name: a resident for one, an aggregator or meter for several; "
        "other roles for nobody by name.",
        examples=[["house-07", "house-08"]],
    ),
]


class ClientIn(In):
    """A new client: somebody who may ask, with a role."""

    client: NewClientId
    role: Annotated[Role, Meta(description="What it may do.", examples=["grid"])]
    name: Annotated[str, Meta(max_length=200, description="For people to tell it by.", examples=["Control room"])] = ""
    participants: Participants = ()
    everybody: Annotated[
        bool, Meta(description="A meter's: hand in readings of all participants, also future ones.", examples=[False])
    ] = False


class ClientOut(Out):
    """A client."""

    client: ClientId
    role: Annotated[str, Meta(description="What it may do.", examples=["grid"])]
    name: Annotated[str, Meta(description="For people to tell it by.", examples=["Control room"])]
    participants: Annotated[list[str], Meta(description="For whom it acts by name.", examples=[[]])]
    everybody: Annotated[bool, Meta(description="Whether it acts for all participants.", examples=[True])]
    has_secret: Annotated[bool, Meta(description="Whether it has a secret for OAuth tokens.", examples=[False])]
    created_at: Time
    revoked_at: Annotated[Time | None, Meta(description="When it was revoked; null: it holds.")] = None


class ClientParticipantsIn(In):
    """For whom a client acts from now on; whoever is not named is not its any more."""

    participants: Participants


class ClientKeyIn(In):
    """A new API key of a client; its role is the client's."""

    label: Label = ""
    expires_at: Annotated[Time | None, Meta(description="When it ends; null: when it is deleted.")] = None


class ClientSecretOut(Out):
    """What a client asks for access tokens with. The secret is told once; the server keeps only a hash of it."""

    client_id: ClientId
    client_secret: Annotated[str, Meta(description="The secret itself.", examples=["5x7..."])]


class RoleOut(Out):
    """A role and what it may do."""

    role: Annotated[str, Meta(description="Its name.", examples=["auditor"])]
    scopes: Annotated[list[str], Meta(description="What it may do.", examples=[["audit:read", "market:read"]])]


class ErasedOut(Out):
    """What became of a wish to be erased."""

    seq: Seq
    at: Time
    state: Annotated[
        Literal["erased", "pending"],
        Meta(description="`pending`: it is done by itself once the last slot is settled.", examples=["pending"]),
    ]


class EraseIn(In):
    """Destroy a participant's key and everything that is its alone. It cannot be undone."""

    confirm: Annotated[Participant, Meta(description="The participant's id once more.", examples=["house-07"])]


class PersonalDataOut(Out):
    """Everything the service keeps of a participant, by kind."""

    participant: Participant
    exported_at: Time
    data: Annotated[dict[str, list[dict[str, Any]]], Meta(description="Rows by kind: orders, readings, bills ...")]


class AccessLogOut(Out):
    """One look at, or change of, a participant's data by somebody."""

    at: Time
    client_id: Annotated[str, Meta(description="By which key or client.", examples=["k7f3a"])]
    role: Annotated[str, Meta(description="Its role.", examples=["operator"])]
    action: Annotated[str, Meta(description="What it did.", examples=["GET participants/house-07/statement"])]
    status: Annotated[int, Meta(description="How it was answered.", examples=[200])]


class AuditPartOut(Out):
    """The personal part of a record for one member: its number and SHA-256 of what is sealed."""

    member: Annotated[int, Meta(description="Its number: never a name.", examples=[12])]
    sha256: Digest


class AuditRecordOut(Out):
    """A record of the journal; docs/journal.md says how ``digest`` covers it and all before it."""

    seq: Seq
    at: Time
    kind: Annotated[str, Meta(description="What happened.", examples=["cleared"])]
    body: Annotated[dict[str, Any], Meta(description="Its public part: nobody's name is in it.")]
    body_sha256: Digest
    digest: Digest
    unique: Annotated[str, Meta(description="A name that occurs once in a journal, or empty.")] = ""
    parts: Annotated[tuple[AuditPartOut, ...], Meta(description="Its personal parts, sealed.")] = ()


class AuditHeadOut(Out):
    """The end of the chain: keep it elsewhere, and nobody can change what is before it unseen."""

    seq: Seq
    digest: Digest
    at: Annotated[Time | None, Meta(description="Of the last record; null when there is none.")] = None


class TokenOut(Out):
    """An access token (OAuth 2, client credentials)."""

    access_token: Annotated[str, Meta(description="Send it as a bearer token.", examples=["eyJhbGciOi..."])]
    token_type: Annotated[str, Meta(description="Bearer.", examples=["Bearer"])]
    expires_in: Annotated[int, Meta(ge=0, description="[s]", examples=[900])]
    scope: Annotated[str, Meta(description="What it may do.", examples=["market:read orders:write"])] = ""


class HealthOut(Out):
    """Whether the service runs, or is ready."""

    status: Annotated[str, Meta(description="ok, or why not: starting, recovering, broken.", examples=["ok"])]
    detail: Annotated[str, Meta(description="The same in words.", examples=[""])] = ""
    seq: Annotated[int | None, Meta(description="Last durable record.", examples=[48211])] = None


class VersionOut(Out):
    """What runs."""

    version: Annotated[str, Meta(description="Of peerwatt.", examples=["0.1.0"])]
    api: Annotated[str, Meta(description="Of this interface.", examples=["v1"])]
    journal_schema: Annotated[int, Meta(description="Of the journal's records.", examples=[1])] = 1


class TimeOut(Out):
    """The market's time; it may run faster than the wall clock."""

    now: Time
    speed: Annotated[float, Meta(description="Market seconds per second of the wall clock.", examples=[1.0])]
    wall: Annotated[Time | None, Meta(description="The server's wall clock.")] = None
    synchronised: Annotated[bool | None, Meta(description="Whether that clock follows a time source.")] = None


class ProblemError(Out):
    """One fault of a request."""

    pointer: Annotated[str, Meta(description="JSON pointer to it.", examples=["/orders/3/e_wh"])]
    detail: Annotated[str, Meta(description="What is wrong with it.", examples=["Expected `int` >= 1"])]


class Problem(Out):
    """Why a request was refused (RFC 9457)."""

    type: Annotated[str, Meta(description="Its kind.", examples=["/problems/not_open"])]
    title: Annotated[str, Meta(description="The kind in words.", examples=["The market takes no orders yet"])]
    status: Annotated[int, Meta(description="The HTTP status.", examples=[409])]
    code: Annotated[str, Meta(description="Its kind, to compare with.", examples=["not_open"])]
    detail: Annotated[str, Meta(description="What is wrong with this request.")] = ""
    instance: Annotated[str | None, Meta(description="Names this very answer, for the operator's log.")] = None
    errors: Annotated[list[ProblemError] | None, Meta(description="Its faults one by one.")] = None
    seq: Annotated[int | None, Meta(description="The journal's record it is about.")] = None
