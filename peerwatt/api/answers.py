"""Errors that are answers: the engine's, a rule's, the journal's and the registry's, as problems."""

from __future__ import annotations

from core.errors import JournalError, MarketError
from market.engine.engine import Overloaded
from peerwatt.api.failures import failure
from peerwatt.api.problems import Refusal, overloaded, refuse
from peerwatt.store.records import RegistryError

_REGISTRY_CODES = {
    "unknown": "not_found",
    "exists": "exists",
    "stale": "stale",
    "not_open": "no_longer_open",
    "bad_value": "invalid",
    "too_many": "invalid",
}


def engine_stopped() -> Refusal:
    """503: the journal cannot be written, and nothing is taken any more until the service is started anew."""
    headers = [("Retry-After", "30")]
    return failure(503, "engine_stopped", "The market has stopped", "its journal cannot be written", headers)


def problem_of(error: Exception) -> Refusal | None:
    """The answer to a request that ended with this error; None if it is none that was thought of."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Overloaded):
        return overloaded(error.retry_after_s)
    if isinstance(error, JournalError):
        return engine_stopped()
    if isinstance(error, MarketError):
        return failure(422, "refused_by_rule", "The market's rule refuses it", error.message)
    if isinstance(error, RegistryError):
        return refuse(_REGISTRY_CODES[error.reason], error.message)
    return None
