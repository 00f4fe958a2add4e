"""Paths of the v2 tree: always absolute, as Go's package path cleans them.

Source: Go path.Clean, path.Join; etcd v2store/watcher_hub.go (isHidden).
"""

from __future__ import annotations

import posixpath


def clean(path: str) -> str:
    """`/` and `path` joined and cleaned: no empty part, no `.`, no `..`, no slash at the end."""
    if path[:1] == "/" and "//" not in path and "/." not in path and (path[-1] != "/" or path == "/"):
        return path
    return posixpath.normpath("/" + path.lstrip("/"))


def join(folder: str, name: str) -> str:
    """The path of `name` in `folder`, both clean."""
    return "/" + name if folder == "/" else f"{folder}/{name}"


def split(path: str) -> tuple[str, str]:
    """The folder and the name of a clean path."""
    folder, _, name = path.rpartition("/")
    return folder or "/", name


def is_hidden(watch_path: str, key: str) -> bool:
    """True when `key` lies behind a name with a leading underscore below `watch_path`.

    A watched path below the key (its folder is being deleted) hides nothing.
    """
    if len(watch_path) > len(key):
        return False
    return "/_" in clean(key[len(watch_path) :])
