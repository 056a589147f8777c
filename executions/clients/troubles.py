"""What can go wrong with a service, told apart by the one question that matters: may the request have been taken in?"""

from __future__ import annotations

from typing import Literal

Why = Literal["refused", "unreachable", "tls", "breaker"]


class ServiceTrouble(Exception):
    """A service did not do what it was asked. `message` says what happened, in one sentence without any secret
    that the masking knows. It may hold words of the service.

    plain        the same without any word of the service, for whoever may read it without signing in
    retry_after  seconds after which asking again may help, where that is known
    """

    def __init__(self, service: str, message: str, *, plain: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.service = service
        self.message = message
        self.plain = plain or message
        self.retry_after = retry_after


class NotReached(ServiceTrouble):
    """Nothing was sent."""

    def __init__(
        self, service: str, message: str, *, why: Why, plain: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(service, message, plain=plain, retry_after=retry_after)
        self.why = why


class BreakerOpen(NotReached):
    """Nothing was sent: the service has failed several times in a row, and is left alone for `retry_after` seconds."""

    def __init__(self, service: str, message: str, *, retry_after: float) -> None:
        super().__init__(service, message, why="breaker", retry_after=retry_after)


class AnswerLost(ServiceTrouble):
    """It was sent, and what became of it is not known: no answer, half of one, or that of a server in trouble."""


class BadAnswer(ServiceTrouble):
    """It was answered with something that its contract does not know."""


class Declined(ServiceTrouble):
    """It was refused with an HTTP status of the 400s: the service did nothing."""

    def __init__(
        self, service: str, message: str, status: int, *, plain: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(service, message, plain=plain, retry_after=retry_after)
        self.status = status


class GivenUp(ServiceTrouble):
    """We gave it up ourselves. `sent`: it may go on over there."""

    def __init__(self, service: str, *, sent: bool) -> None:
        super().__init__(service, f"The request to the {service} service was given up.")
        self.sent = sent
