"""The errors of the v2 API: etcd's codes, words and HTTP statuses.

Source: etcd v2error/error.go.
"""

from __future__ import annotations

from typing import Final

from balsad import go_json

KEY_NOT_FOUND: Final = 100
TEST_FAILED: Final = 101
NOT_FILE: Final = 102
NOT_DIR: Final = 104
NODE_EXIST: Final = 105
ROOT_READ_ONLY: Final = 107
DIR_NOT_EMPTY: Final = 108
UNAUTHORIZED: Final = 110
PREV_VALUE_REQUIRED: Final = 201
TTL_NOT_A_NUMBER: Final = 202
INDEX_NOT_A_NUMBER: Final = 203
INVALID_FIELD: Final = 209
INVALID_FORM: Final = 210
REFRESH_VALUE: Final = 211
REFRESH_TTL_REQUIRED: Final = 212
RAFT_INTERNAL: Final = 300
LEADER_ELECT: Final = 301
WATCHER_CLEARED: Final = 400
EVENT_INDEX_CLEARED: Final = 401

MESSAGES: Final[dict[int, str]] = {
    100: "Key not found",
    101: "Compare failed",
    102: "Not a file",
    103: "Reached the max number of peers in the cluster",
    104: "Not a directory",
    105: "Key already exists",
    106: "The prefix of given key is a keyword in etcd",
    107: "Root is read only",
    108: "Directory not empty",
    109: "Peer address has existed",
    110: "The request requires user authentication",
    200: "Value is Required in POST form",
    201: "PrevValue is Required in POST form",
    202: "The given TTL in POST form is not a number",
    203: "The given index in POST form is not a number",
    204: "Value or TTL is required in POST form",
    205: "The given timeout in POST form is not a number",
    206: "Name is required in POST form",
    207: "Index or value is required",
    208: "Index and value cannot both be specified",
    209: "Invalid field",
    210: "Invalid POST form",
    211: "Value provided on refresh",
    212: "A TTL must be provided on refresh",
    300: "Raft Internal Error",
    301: "During Leader Election",
    400: "watcher is cleared due to etcd recovery",
    401: "The event in requested index is outdated and cleared",
    402: "Standby Internal Error",
    403: "Invalid active size",
    404: "Standby remove delay",
    500: "Client Internal Error",
}

_STATUSES: Final[dict[int, int]] = {
    KEY_NOT_FOUND: 404,
    NOT_FILE: 403,
    DIR_NOT_EMPTY: 403,
    UNAUTHORIZED: 401,
    TEST_FAILED: 412,
    NODE_EXIST: 412,
    RAFT_INTERNAL: 500,
    LEADER_ELECT: 500,
}


class V2Error(Exception):
    """A refusal of the v2 API. `index` is the etcd index at which it was given."""

    def __init__(self, code: int, cause: str = "", index: int = 0) -> None:
        self.code = code
        self.message = MESSAGES.get(code, "")
        self.cause = cause
        self.index = index
        super().__init__(f"{self.message} ({cause})")

    @property
    def status(self) -> int:
        """The HTTP status."""
        return _STATUSES.get(self.code, 400)

    def encode(self, cause: str | None = None) -> bytes:
        """The JSON object that clients get, without the newline behind it."""
        cause = self.cause if cause is None else cause
        text = f'{{"errorCode":{self.code},"message":{go_json.quote(self.message)}'
        if cause:
            text += f',"cause":{go_json.quote(cause)}'
        return (text + f',"index":{self.index}}}').encode("utf-8", "surrogateescape")
