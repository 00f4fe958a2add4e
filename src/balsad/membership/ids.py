"""Who is who: member ids from peer URLs, cluster ids from member ids.

Source: etcd membership.computeMemberId, RaftCluster.genID, types.ID.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

NO_MEMBER: Final = 0

_HEX: Final = re.compile("[0-9a-fA-F]{1,}")


def member_id(peer_urls: Iterable[str], token: str, now_s: int | None = None) -> int:
    """The id of a member: of a bootstrapped one by `token`; of one added at run time by "" and the Unix seconds.

    The same URLs and token give the same id on another cluster too.
    """
    text = "".join(sorted(peer_urls)) + token
    if now_s is not None:
        text += str(now_s)
    return _hash(text.encode("utf-8", "surrogateescape"))


def cluster_id(member_ids: Iterable[int]) -> int:
    """The id of the cluster that these members found."""
    return _hash(b"".join(one.to_bytes(8, "big") for one in sorted(member_ids)))


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.sha1(data, usedforsecurity=False).digest()[:8], "big")


def format_id(number: int) -> str:
    """The form in which ids are printed and used as keys: hex without padding."""
    return f"{number:x}"


def parse_id(text: str) -> int:
    """The id in `text`. Raises ValueError for anything but a hex number of 64 bits."""
    if not _HEX.fullmatch(text):
        raise ValueError(f"not a hex id: {text!r}")
    number = int(text, 16)
    if number >> 64:
        raise ValueError(f"id out of range: {text!r}")
    return number
