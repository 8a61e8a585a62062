"""The requests that the sandbox refuses, as the API does."""

from __future__ import annotations


class RefusalError(Exception):
    """A request is refused. Its text is the message of the response; without one, that of the status."""

    status = 500


class BadRequestError(RefusalError):
    """The request is invalid."""

    status = 400


class UnauthorizedError(RefusalError):
    """The key is missing or wrong."""

    status = 401


class ForbiddenError(RefusalError):
    """The key may not do this, or the account is out of credits."""

    status = 403


class NotFoundError(RefusalError):
    """The API has no such endpoint or model."""

    status = 404


class TooManyRequestsError(RefusalError):
    """The endpoint was called too often."""

    status = 429
