"""Which of balsad's two forms runs: its hot modules compiled, or all of it as Python.

The build leaves a note in the package: that it compiled, or why it did not. A checkout has no note.
"""

from __future__ import annotations

import importlib
import platform
from pathlib import Path
from typing import Final

import balsad
from balsad.config.notes import Note

NOTE: Final = "built.txt"
"""What the build wrote, beside this package's modules; see tools/compiled_build.py."""


def is_compiled() -> bool:
    # Asked of a module that is always compiled, not of the note: whose Python it was built for may not be this one.
    return not str(importlib.import_module("balsad.wire").__file__).endswith(".py")


def why_not_compiled() -> str:
    """The build's reason; empty when all is compiled, or when there was no build."""
    if is_compiled():
        return ""
    try:
        note = (Path(balsad.__file__).parent / NOTE).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    prefix = "compiled for "
    return f"built for {note.removeprefix(prefix)}" if note.startswith(prefix) else note


def form_note() -> Note:
    """What the log says of balsad, at a start and at `--version`, whose output is etcd's alone."""
    who: dict[str, object] = {
        "version": balsad.__version__,
        "python-version": platform.python_version(),
        "compiled": is_compiled(),
    }
    why = why_not_compiled()
    return Note("info", "balsad takes the part of etcd", {**who, "not-compiled-because": why} if why else who)
