"""An etcd client: `from balsad.client import Client`.

The messages that calls give back are in `balsad.client.messages`, the errors
they raise in `balsad.errors` and `balsad.client.errors`.
"""

from __future__ import annotations

from balsad.client.client import Client
from balsad.client.kv import compare, delete_request, get_request, prefix_end, put_request

__all__ = ["Client", "compare", "delete_request", "get_request", "prefix_end", "put_request"]
