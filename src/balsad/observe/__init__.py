"""What an operator sees: log lines and metrics."""

from balsad.observe.logs import (
    RAFT_LOGGER,
    get_logger,
    hook_uncaught,
    log_loop_exception,
    set_up,
)
from balsad.observe.metrics import Metrics

__all__ = ["RAFT_LOGGER", "Metrics", "get_logger", "hook_uncaught", "log_loop_exception", "set_up"]
