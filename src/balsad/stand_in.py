"""Leave for tests to put a class of their own in a compiled one's place.

A compiled module asks for what it works with by its own type, and mypyc lets no class of Python inherit from a compiled
one unless that is marked. The mark costs a look into the class's table for each call of a method from outside, some
nanoseconds: it is for classes that are asked once for a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # mypyc knows it by this name, and reads it from the source: the class itself is handed to nobody.
    from mypy_extensions import mypyc_attr
else:

    def mypyc_attr(**_attributes):
        return lambda cls: cls


__all__ = ["mypyc_attr"]
