"""The etcd release whose tools these are taken for."""

from __future__ import annotations

from typing import Final

VERSION: Final = "3.5.1"
API_VERSION: Final = "3.5"
