"""A balsad with other constants: `python -m tests.interop.tweaked_member TWEAKS ARGS...`.

TWEAKS is JSON, {MODULE: {NAME: VALUE}}: what takes minutes in earnest takes a second here.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from balsad.__main__ import main
from tests.interop.servers import Program


def tweaked(module: str, **constants: Any) -> Program:
    """A balsad in which these constants of `module` have other values."""
    return Program("balsad", (sys.executable, "-m", "tests.interop.tweaked_member", json.dumps({module: constants})))


def run() -> int:
    for module, constants in json.loads(sys.argv[1]).items():
        for name, value in constants.items():
            assert hasattr(importlib.import_module(module), name), f"{module} has no {name}"
            setattr(importlib.import_module(module), name, value)
    return main(["etcd", *sys.argv[2:]])


if __name__ == "__main__":
    sys.exit(run())
