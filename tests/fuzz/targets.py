"""All doors that are fuzzed."""

from __future__ import annotations

from typing import Final

from tests.fuzz.codec_targets import CODECS
from tests.fuzz.contents_targets import CONTENTS
from tests.fuzz.file_targets import FILES
from tests.fuzz.json_targets import JSON
from tests.fuzz.member_targets import MEMBER
from tests.fuzz.peer_targets import PEER
from tests.fuzz.wire_targets import WIRE

TARGETS: Final = (*CODECS, *WIRE, *FILES, *JSON, *MEMBER, *PEER, *CONTENTS)
