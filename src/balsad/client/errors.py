"""What the client raises: etcd's own errors by class, all others as the gRPC status that came."""

from __future__ import annotations

from balsad import errors
from balsad.errors import Code, RequestError, UnknownError

_NAMES = {
    Code.OK: "OK",
    Code.CANCELED: "Canceled",
    Code.UNKNOWN: "Unknown",
    Code.INVALID_ARGUMENT: "InvalidArgument",
    Code.DEADLINE_EXCEEDED: "DeadlineExceeded",
    Code.NOT_FOUND: "NotFound",
    Code.ALREADY_EXISTS: "AlreadyExists",
    Code.PERMISSION_DENIED: "PermissionDenied",
    Code.RESOURCE_EXHAUSTED: "ResourceExhausted",
    Code.FAILED_PRECONDITION: "FailedPrecondition",
    Code.ABORTED: "Aborted",
    Code.OUT_OF_RANGE: "OutOfRange",
    Code.UNIMPLEMENTED: "Unimplemented",
    Code.INTERNAL: "Internal",
    Code.UNAVAILABLE: "Unavailable",
    Code.DATA_LOSS: "DataLoss",
    Code.UNAUTHENTICATED: "Unauthenticated",
}


class RpcError(RequestError):
    """A gRPC status that is none of etcd's own errors."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status

    def __str__(self) -> str:
        name = _NAMES.get(Code(self.status)) if self.status in _NAMES else f"Code({self.status})"
        return f"rpc error: code = {name} desc = {self.text}"


class CallTimeoutError(RequestError):
    """The time given for a call is over."""

    code = Code.DEADLINE_EXCEEDED
    message = "context deadline exceeded"


class ClientClosedError(RequestError):
    """The client was closed while a call was under way, or before."""

    code = Code.CANCELED
    message = "context canceled"


class LeaseExpiredError(RequestError):
    """The lease of a session is gone."""

    code = Code.NOT_FOUND
    message = "mutex: session is expired"


def _known() -> dict[str, type[RequestError]]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RequestError)]
    return {kind.message: kind for kind in kinds if kind.message.startswith("etcdserver: ")}


_KNOWN: dict[str, type[RequestError]] = {}


def error_of(code: int, text: str) -> RequestError:
    """The exception for a gRPC status: the class of etcd's error with these words, or an RpcError."""
    if not _KNOWN:
        _KNOWN.update(_known())
    kind = _KNOWN.get(text)
    if kind is not None:
        return kind()
    return RpcError(code, text)


def error_of_reason(reason: str) -> RequestError:
    """The exception for why a server canceled a watch; servers give a status as text, or the bare words."""
    if not _KNOWN:
        _KNOWN.update(_known())
    kind = _KNOWN.get(reason.rpartition(" desc = ")[2], UnknownError)
    return kind(reason)
