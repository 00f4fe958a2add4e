"""One input again: `python -m tests.fuzz.one TARGET HEX`; --shorten looks for a shorter one that fails alike."""

from __future__ import annotations

import sys

from tests.fuzz.engine import shorten
from tests.fuzz.targets import TARGETS


def main(name: str, text: str, *options: str) -> None:
    target = next(target for target in TARGETS if target.name == name)
    data = sys.stdin.buffer.read() if text == "-" else bytes.fromhex(text)
    if "--shorten" in options:
        print(shorten(target, data).hex())
    else:
        print(target.check(data))


if __name__ == "__main__":
    main(*sys.argv[1:])
