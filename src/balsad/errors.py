"""Every error a client can see: etcd's exact words and gRPC code.

Source: etcd api/v3rpc/rpctypes/error.go.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class Code(IntEnum):
    OK = 0
    CANCELED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RequestError(Exception):
    """A refusal that is part of the API; a class carries etcd's words and code."""

    code: ClassVar[Code] = Code.UNKNOWN
    message: ClassVar[str] = ""

    def __init__(self, message: str | None = None) -> None:
        self.text = self.message if message is None else message
        super().__init__(self.text)


class UnknownError(RequestError):
    """What etcd lets out unmapped: code Unknown and the raw text."""


class InternalError(RequestError):
    code = Code.INTERNAL


class EmptyKeyError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: key is not provided"


class KeyNotFoundError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: key not found"


class ValueProvidedError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: value is provided"


class LeaseProvidedError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: lease is provided"


class TooManyOpsError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: too many operations in txn request"


class DuplicateKeyError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: duplicate key given in txn request"


class InvalidClientAPIVersionError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: invalid client api version"


class InvalidSortOptionError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: invalid sort option"


class CompactedError(RequestError):
    code = Code.OUT_OF_RANGE
    message = "etcdserver: mvcc: required revision has been compacted"


class FutureRevError(RequestError):
    code = Code.OUT_OF_RANGE
    message = "etcdserver: mvcc: required revision is a future revision"


class NoSpaceError(RequestError):
    code = Code.RESOURCE_EXHAUSTED
    message = "etcdserver: mvcc: database space exceeded"


class LeaseNotFoundError(RequestError):
    code = Code.NOT_FOUND
    message = "etcdserver: requested lease not found"


class LeaseExistError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: lease already exists"


class LeaseTTLTooLargeError(RequestError):
    code = Code.OUT_OF_RANGE
    message = "etcdserver: too large lease TTL"


class WatchCanceledError(RequestError):
    code = Code.CANCELED
    message = "etcdserver: watch canceled"


class MemberExistError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: member ID already exist"


class PeerURLExistError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: Peer URLs already exists"


class MemberNotEnoughStartedError(RequestError):
    # etcd has a code for it, and mixes up which of its two errors goes out (v3rpc/util.go), up to 3.6.
    code = Code.UNKNOWN
    message = "etcdserver: re-configuration failed due to not enough started members"


class MemberBadURLsError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: given member URLs are invalid"


class MemberNotFoundError(RequestError):
    code = Code.NOT_FOUND
    message = "etcdserver: member not found"


class MemberNotLearnerError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: can only promote a learner member"


class LearnerNotReadyError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: can only promote a learner member which is in sync with leader"


class TooManyLearnersError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: too many learner members in cluster"


class ClusterIDMismatchError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: cluster ID mismatch"


class RequestTooLargeError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: request is too large"


class TooManyRequestsError(RequestError):
    code = Code.UNKNOWN  # as MemberNotEnoughStartedError
    message = "etcdserver: too many requests"


class RootUserNotExistError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: root user does not exist"


class RootRoleNotExistError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: root user does not have root role"


class UserAlreadyExistError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: user name already exists"


class UserEmptyError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: user name is empty"


class UserNotFoundError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: user name not found"


class RoleAlreadyExistError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: role name already exists"


class RoleNotFoundError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: role name not found"


class RoleEmptyError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: role name is empty"


class AuthFailedError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: authentication failed, invalid user ID or password"


class PermissionNotGivenError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: permission not given"


class PermissionDeniedError(RequestError):
    code = Code.PERMISSION_DENIED
    message = "etcdserver: permission denied"


class RoleNotGrantedError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: role is not granted to the user"


class PermissionNotGrantedError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: permission is not granted to the role"


class AuthNotEnabledError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: authentication is not enabled"


class InvalidAuthTokenError(RequestError):
    code = Code.UNAUTHENTICATED
    message = "etcdserver: invalid auth token"


class InvalidAuthMgmtError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: invalid auth management"


class AuthOldRevisionError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: revision of auth store is old"


class NoLeaderError(RequestError):
    code = Code.UNAVAILABLE
    message = "etcdserver: no leader"


class NotLeaderError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: not leader"


class LeaderChangedError(RequestError):
    code = Code.UNAVAILABLE
    message = "etcdserver: leader changed"


class NotCapableError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: not capable"


class StoppedError(RequestError):
    code = Code.UNAVAILABLE
    message = "etcdserver: server stopped"


class RequestTimedOutError(RequestError):
    code = Code.UNAVAILABLE
    message = "etcdserver: request timed out"


class TimeoutDueToLeaderFailError(RequestError):
    code = Code.UNAVAILABLE
    message = "etcdserver: request timed out, possibly due to previous leader failure"


class TimeoutDueToConnectionLostError(RequestError):
    code = Code.UNAVAILABLE
    message = "etcdserver: request timed out, possibly due to connection lost"


class TimeoutWaitAppliedIndexError(RequestError):
    code = Code.UNAVAILABLE
    message = "etcdserver: request timed out, waiting for the applied index took too long"


class UnhealthyError(RequestError):
    code = Code.UNAVAILABLE
    message = "etcdserver: unhealthy cluster"


class CorruptError(RequestError):
    code = Code.DATA_LOSS
    message = "etcdserver: corrupt cluster"


class NotSupportedForLearnerError(RequestError):
    code = Code.UNAVAILABLE
    message = "etcdserver: rpc not supported for learner"


class BadLeaderTransfereeError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: bad leader transferee"


class WrongDowngradeVersionFormatError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: wrong downgrade target version format"


class InvalidDowngradeTargetVersionError(RequestError):
    code = Code.INVALID_ARGUMENT
    message = "etcdserver: invalid downgrade target version"


class ClusterVersionUnavailableError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: cluster version not found during downgrade"


class DowngradeInProcessError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: cluster has a downgrade job in progress"


class NoInflightDowngradeError(RequestError):
    code = Code.FAILED_PRECONDITION
    message = "etcdserver: no inflight downgrade job"


class CanceledError(RequestError):
    code = Code.CANCELED
    message = "etcdserver: request canceled"


class DeadlineExceededError(RequestError):
    code = Code.DEADLINE_EXCEEDED
    message = "etcdserver: context deadline exceeded"
