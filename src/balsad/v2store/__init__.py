"""The v2 tree in memory: its operations, watchers, snapshots, and the requests of the log."""

from balsad.v2store import errors
from balsad.v2store.errors import V2Error
from balsad.v2store.events import Event, NodeView, encode_event
from balsad.v2store.go_time import format_ns
from balsad.v2store.recovery import OldTree, RecoveryJob, SavedStoreError, recover
from balsad.v2store.requests import (
    ClusterVersionPut,
    MemberAttributesPut,
    Outcome,
    Request,
    apply_request,
    decode_request,
    encode_request,
    is_request,
)
from balsad.v2store.saved import SaveJob, save
from balsad.v2store.stats import Counters, Stats
from balsad.v2store.store import CLUSTER_NAMESPACE, KEYS_NAMESPACE, Store
from balsad.v2store.watcher_hub import Watcher

__all__ = [
    "CLUSTER_NAMESPACE",
    "KEYS_NAMESPACE",
    "ClusterVersionPut",
    "Counters",
    "Event",
    "MemberAttributesPut",
    "NodeView",
    "OldTree",
    "Outcome",
    "RecoveryJob",
    "Request",
    "SaveJob",
    "SavedStoreError",
    "Stats",
    "Store",
    "V2Error",
    "Watcher",
    "apply_request",
    "decode_request",
    "encode_event",
    "encode_request",
    "errors",
    "format_ns",
    "is_request",
    "recover",
    "save",
]
