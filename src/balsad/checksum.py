"""CRC-32C from the `crc32c` library, without what its package imports beside it.

That is its own command line and a look for its version: more than all the rest of what a short-lived tool imports.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from typing import cast

Crc32c = Callable[..., int]
"""crc32c(data, value=0): the checksum of `data` behind what has the checksum `value`."""


def _find() -> Crc32c:
    if "crc32c" not in sys.modules:
        package = PathFinder.find_spec("crc32c")
        inner = PathFinder.find_spec("crc32c._crc32c", package.submodule_search_locations) if package else None
        if inner is not None and inner.loader is not None:
            module = module_from_spec(inner)
            inner.loader.exec_module(module)
            found = getattr(module, "crc32c", None)
            if found is not None:
                return cast(Crc32c, found)
    from crc32c import crc32c

    return crc32c


crc32c: Crc32c = _find()
