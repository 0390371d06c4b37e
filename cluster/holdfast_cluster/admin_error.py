"""What the administration refuses, and under which gRPC status.

The status tells a program what to do: correct the request (INVALID_ARGUMENT), look for something else (NOT_FOUND),
change the circumstances first (FAILED_PRECONDITION), free some room (RESOURCE_EXHAUSTED) or ask again later
(UNAVAILABLE). The message tells a person: what is wrong, where, and what would be right.
"""

from __future__ import annotations

import grpc


class AdminError(Exception):
    """A request that can't be done. ``message`` is for the person who made it."""

    status = grpc.StatusCode.INTERNAL

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(AdminError):
    """A field does not hold what it should."""

    status = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(AdminError):
    status = grpc.StatusCode.NOT_FOUND


class Refused(AdminError):
    """The request is well-formed, but things are not such that it can be done."""

    status = grpc.StatusCode.FAILED_PRECONDITION


class NoRoom(AdminError):
    """A queue or the disk is full."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(AdminError):
    """Not now: no leader, or no answer in time. What was asked may still happen."""

    status = grpc.StatusCode.UNAVAILABLE
