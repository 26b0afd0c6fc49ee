"""What operators ask: network and envelopes, members and keys, the audit log."""

from __future__ import annotations

from collections.abc import Sequence

from peerwatt.client.calls import (
    Call,
    Tagged,
    answer,
    endpoint,
    if_match,
    json_body,
    listing,
    nothing,
    path,
    query,
    tagged,
)
from peerwatt.wire.fields import Page, ReceiptStatus
from peerwatt.wire.network import (
    CongestionOut,
    EnvelopeDefaultIn,
    EnvelopeDefaultOut,
    EnvelopeIn,
    EnvelopeOut,
    EnvelopesAck,
    EnvelopesIn,
    NetworkOut,
    NetworkStateOut,
    ReceiptIn,
    ReceiptOut,
)
from peerwatt.wire.service import (
    AuditHeadOut,
    AuditRecordOut,
    ClientIn,
    ClientKeyIn,
    ClientOut,
    ClientParticipantsIn,
    ClientSecretOut,
    KeyIn,
    KeyOut,
    ParticipantIn,
    ParticipantOut,
    RoleOut,
)


class OperatorEndpoints:
    """The grid operator's, the market operator's and the auditor's side."""

    # --- network ----------------------------------------------------------------------------------------------------

    @endpoint
    def network(self) -> Call[Tagged[NetworkOut]]:
        """The network with its ratings and limits, and its version as ETag."""
        return Call("GET", "network", tagged(NetworkOut))

    @endpoint
    def network_state(self, *, at: str | None = None) -> Call[NetworkStateOut]:
        """What the wires did in a slot; default: the last one."""
        return Call("GET", "network/state", answer(NetworkStateOut), params=query(at=at))

    @listing
    def congestion(self, *, at: str | None = None, limit: int | None = None) -> Call[Page[CongestionOut]]:
        """Elements at or near a limit in a slot; default: the last one."""
        return Call("GET", "congestion", answer(Page[CongestionOut]), params=query(at=at, limit=limit))

    @endpoint
    def publish_envelopes(
        self, envelopes: Sequence[EnvelopeIn], *, source: str, calculation: str = ""
    ) -> Call[EnvelopesAck]:
        """Publish operating envelopes; where they overlap older ones, they supersede them."""
        publication = EnvelopesIn(envelopes=list(envelopes), source=source, calculation=calculation)
        return Call("POST", "envelopes:publish", answer(EnvelopesAck), body=json_body(publication))

    @listing
    def envelopes(self, *, participant: str | None = None, limit: int | None = None) -> Call[Page[EnvelopeOut]]:
        """Envelopes that hold, of everybody or of one participant."""
        params = query(participant=participant, limit=limit)
        return Call("GET", "envelopes", answer(Page[EnvelopeOut]), params=params)

    @endpoint
    def envelope_default(self) -> Call[Tagged[EnvelopeDefaultOut]]:
        """What holds for everybody without a live envelope, with the ETag that a change needs."""
        return Call("GET", "envelopes/default", tagged(EnvelopeDefaultOut))

    @endpoint
    def set_envelope_default(
        self, *, import_w: int | None, export_w: int | None, etag: str
    ) -> Call[Tagged[EnvelopeDefaultOut]]:
        """Change it [W]; None = no limit."""
        body = json_body(EnvelopeDefaultIn(import_w=import_w, export_w=export_w))
        return Call("PUT", "envelopes/default", tagged(EnvelopeDefaultOut), body=body, headers=if_match(etag))

    @listing
    def receipts(self, publication: int, *, limit: int | None = None) -> Call[Page[ReceiptOut]]:
        """What participants answered to a publication."""
        where = path("envelopes", "publications", str(publication), "receipts")
        return Call("GET", where, answer(Page[ReceiptOut]), params=query(limit=limit))

    @listing
    def envelope(self, participant: str, *, limit: int | None = None) -> Call[Page[EnvelopeOut]]:
        """A participant's envelopes: now and to come."""
        where = path("participants", participant, "envelope")
        return Call("GET", where, answer(Page[EnvelopeOut]), params=query(limit=limit))

    @endpoint
    def answer_envelope(self, participant: str, publication: int, status: ReceiptStatus) -> Call[ReceiptOut]:
        """Answer a publication."""
        body = json_body(ReceiptIn(publication=publication, status=status))
        return Call("POST", path("participants", participant, "envelope", "receipts"), answer(ReceiptOut), body=body)

    # --- members and keys -------------------------------------------------------------------------------------------

    @listing
    def participants(self, *, limit: int | None = None) -> Call[Page[ParticipantOut]]:
        """All members."""
        return Call("GET", "participants", answer(Page[ParticipantOut]), params=query(limit=limit))

    @endpoint
    def add_participant(
        self, participant: str, *, contract: int = 0, from_slot: str | None = None, node: int = -1
    ) -> Call[ParticipantOut]:
        """Make a new member."""
        body = json_body(ParticipantIn(participant=participant, contract=contract, from_slot=from_slot, node=node))
        return Call("POST", "participants", answer(ParticipantOut), body=body)

    @endpoint
    def remove_participant(self, participant: str) -> Call[None]:
        """Let a member leave, from the next slot that is not yet past its gate."""
        return Call("DELETE", path("participants", participant), nothing)

    @listing
    def keys(self, participant: str, *, limit: int | None = None) -> Call[Page[KeyOut]]:
        """A participant's keys, without their texts."""
        where = path("participants", participant, "keys")
        return Call("GET", where, answer(Page[KeyOut]), params=query(limit=limit))

    @endpoint
    def add_key(self, participant: str, key: KeyIn) -> Call[KeyOut]:
        """Make a key; its text is in this answer and nowhere else."""
        return Call("POST", path("participants", participant, "keys"), answer(KeyOut), body=json_body(key))

    @endpoint
    def delete_key(self, key_id: str) -> Call[None]:
        """Revoke a key."""
        return Call("DELETE", path("keys", key_id), nothing)

    @listing
    def roles(self, *, limit: int | None = None) -> Call[Page[RoleOut]]:
        """Roles and what they may do."""
        return Call("GET", "roles", answer(Page[RoleOut]), params=query(limit=limit))

    # --- clients ----------------------------------------------------------------------------------------------------

    @listing
    def clients(self, *, limit: int | None = None) -> Call[Page[ClientOut]]:
        """All clients, also revoked ones."""
        return Call("GET", "clients", answer(Page[ClientOut]), params=query(limit=limit))

    @endpoint
    def add_client(self, client: ClientIn) -> Call[ClientOut]:
        """Make a client: a grid operator, an aggregator, a meter gateway ...; it needs a key or a secret next."""
        return Call("POST", "clients", answer(ClientOut), body=json_body(client))

    @endpoint
    def client(self, client: str) -> Call[ClientOut]:
        """One client."""
        return Call("GET", path("clients", client), answer(ClientOut))

    @endpoint
    def revoke_client(self, client: str) -> Call[None]:
        """End a client with all its keys, tokens and streams, for good."""
        return Call("DELETE", path("clients", client), nothing)

    @endpoint
    def set_client_participants(self, client: str, participants: Sequence[str]) -> Call[ClientOut]:
        """Say anew for whom a client acts."""
        body = json_body(ClientParticipantsIn(participants=tuple(participants)))
        return Call("PUT", path("clients", client, "participants"), answer(ClientOut), body=body)

    @listing
    def client_keys(self, client: str, *, limit: int | None = None) -> Call[Page[KeyOut]]:
        """A client's keys, without their texts."""
        where = path("clients", client, "keys")
        return Call("GET", where, answer(Page[KeyOut]), params=query(limit=limit))

    @endpoint
    def add_client_key(self, client: str, *, label: str = "", expires_at: str | None = None) -> Call[KeyOut]:
        """Make a key of a client; its text is in this answer and nowhere else."""
        body = json_body(ClientKeyIn(label=label, expires_at=expires_at))
        return Call("POST", path("clients", client, "keys"), answer(KeyOut), body=body)

    @endpoint
    def set_client_secret(self, client: str) -> Call[ClientSecretOut]:
        """Give a client a new secret for OAuth tokens, told once; its old one and its tokens end."""
        return Call("POST", path("clients", f"{client}:secret"), answer(ClientSecretOut))

    # --- audit ------------------------------------------------------------------------------------------------------

    @listing
    def audit(self, *, after: int | None = None, limit: int | None = None) -> Call[Page[AuditRecordOut]]:
        """Records of the journal behind number ``after``, in order."""
        return Call("GET", "audit", answer(Page[AuditRecordOut]), params=query(after=after, limit=limit))

    @endpoint
    def audit_head(self) -> Call[AuditHeadOut]:
        """The end of the chain."""
        return Call("GET", "audit/head", answer(AuditHeadOut))

    @endpoint
    def audit_record(self, seq: int) -> Call[AuditRecordOut]:
        """One record."""
        return Call("GET", path("audit", "record", str(seq)), answer(AuditRecordOut))
