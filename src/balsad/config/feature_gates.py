"""`--feature-gates Name=true,Name=false`: what 3.6 calls the settings that were experimental flags before.

Source: etcd server/features/etcd_features.go, pkg/featuregate.
"""

from __future__ import annotations

from typing import Final

from balsad.config.go_flags import Value, parse_bool
from balsad.config.server_config import ConfigError

_ALPHA: Final = {
    "InitialCorruptCheck": "initial_corrupt_check",
    "CompactHashCheck": "compact_hash_check",
    "StopGRPCServiceOnDefrag": "stop_grpc_service_on_defrag",
    "LeaseCheckpoint": "enable_lease_checkpoint",
    "LeaseCheckpointPersist": "enable_lease_checkpoint_persist",
    "SetMemberLocalAddr": "",
    "PriorityRequest": "",
}
_BETA: Final = {
    "TxnModeWriteWithSharedBuffer": "txn_mode_write_with_shared_buffer",
    "FastLeaseKeepAlive": "fast_lease_keep_alive",
}
_ALL: Final = {"AllAlpha": _ALPHA, "AllBeta": _BETA}


def gated_fields(text: str) -> dict[str, Value]:
    """The fields of ServerConfig that the gates in `text` set; a gate by name wins over AllAlpha and AllBeta.

    Raises: ConfigError.
    """
    named: dict[str, Value] = {}
    groups: dict[str, Value] = {}
    for part in text.split(","):
        if not part:
            continue
        name, equals, wanted = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ConfigError(f"missing bool value for {name}")
        try:
            enabled = parse_bool(wanted)
        except ValueError:
            raise ConfigError(f"invalid value of {name}={wanted}, err: {_syntax_error(wanted)}") from None
        if name in _ALL:
            groups.update(dict.fromkeys(filter(None, _ALL[name].values()), enabled))
        elif name in _ALPHA or name in _BETA:
            field = _ALPHA.get(name) or _BETA.get(name)
            if field:
                named[field] = enabled
        else:
            raise ConfigError(f"unrecognized feature gate: {name}")
    return {**groups, **named}


def _syntax_error(wanted: str) -> str:
    return f'strconv.ParseBool: parsing "{wanted}": invalid syntax'
