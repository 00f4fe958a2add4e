"""Why a discovery fails, in the words that etcd's two discoveries share."""

from __future__ import annotations

from balsad.config import StartError


class DiscoveryError(StartError):
    """The registry was asked, and does not let this member in."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"failed to join discovery cluster ({reason})")
        self.reason = reason


SIZE_NOT_FOUND = "discovery: size key not found"
BAD_SIZE = "discovery: size key is bad"
FULL = "discovery: cluster is full"
DUPLICATE_ID = "discovery: found duplicate id"
DUPLICATE_NAME = "discovery: found duplicate name"
BAD_ENDPOINT = "discovery: bad discovery endpoint"


def invalid_url(versioned: str) -> str:
    """`versioned`: what this discovery calls the URLs of members."""
    return f"discovery: invalid {versioned}"
