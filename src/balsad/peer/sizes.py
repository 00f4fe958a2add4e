"""Sizes as etcd's log lines have them: `20 kB`, `1.5 MB`. Source: go-humanize Bytes."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def human_bytes(size: int) -> str:
    if size < 10:
        return f"{size} B"
    unit = 0
    scale = 1
    while unit + 1 < len(_UNITS) and size >= scale * 1000:
        unit += 1
        scale *= 1000
    tenths = int(size / scale * 10 + 0.5)
    return f"{tenths / 10:.1f} {_UNITS[unit]}" if tenths < 100 else f"{tenths / 10:.0f} {_UNITS[unit]}"
