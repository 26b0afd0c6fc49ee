"""What can go wrong between a client and the market."""

from __future__ import annotations

from peerwatt.wire.service import Problem, ProblemError


class ClientError(Exception):
    """Base of the client's errors."""


class UnreachableError(ClientError):
    """The server did not answer, also not after the retries.

    ``maybe_done``: the request may have reached it, and what it asked for may have happened. Sending it again with the
    same idempotency key (``key``, where it has one) tells.
    """

    def __init__(self, url: str, reason: str, *, attempts: int, maybe_done: bool, key: str | None = None) -> None:
        self.url = url
        self.reason = reason
        self.attempts = attempts
        self.maybe_done = maybe_done
        self.key = key
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        super().__init__(f"no answer from {url} in {tries}: {reason}")


class BadAnswerError(ClientError):
    """The answer is not what this interface answers: perhaps something else listens at the address."""


class ApiProblem(ClientError):  # noqa: N818  (RFC 9457 calls it a problem)
    """The server refused the request and said why.

    Parameters
    ----------
    problem
        What it said.
    retry_after_s
        How long it asked to wait; None if it did not say.
    key
        The request's idempotency key, where it has one.
    """

    def __init__(self, problem: Problem, *, retry_after_s: float | None = None, key: str | None = None) -> None:
        self.problem = problem
        self.retry_after_s = retry_after_s
        self.key = key
        faults = "".join(f"\n  {error.pointer}: {error.detail}" for error in problem.errors or ())
        detail = f": {problem.detail}" if problem.detail else ""
        super().__init__(f"{problem.status} {problem.code}: {problem.title}{detail}{faults}")

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def code(self) -> str:
        """Its kind, to compare with."""
        return self.problem.code

    @property
    def detail(self) -> str:
        """What is wrong with this request, in words."""
        return self.problem.detail

    @property
    def errors(self) -> list[ProblemError]:
        """Its faults one by one; empty if there is only one."""
        return list(self.problem.errors or ())
