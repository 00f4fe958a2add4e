"""Log lines of the Go client on standard error, which people read and scripts filter."""

from __future__ import annotations

import time

from balsad.ctl.console import Console
from balsad.go_json import quote


def log(console: Console, level: str, caller: str, message: str, fields: dict[str, str], logger: str = "") -> None:
    """One line as zap's production logger writes it."""
    parts = [f'"level":{quote(level)}', f'"ts":{time.time():.7f}']
    if logger:
        parts.append(f'"logger":{quote(logger)}')
    parts += [f'"caller":{quote(caller)}', f'"msg":{quote(message)}']
    parts += [f"{quote(name)}:{quote(value)}" for name, value in fields.items()]
    console.error("{" + ",".join(parts) + "}")


def log_unreachable(console: Console, error: BaseException) -> None:
    """Why no endpoint could be reached."""
    text = (
        "rpc error: code = DeadlineExceeded desc = latest balancer error: last connection error: "
        f'connection error: desc = "transport: {error}"'
    )
    log(console, "warn", "v3/retry_interceptor.go:62", "retrying of unary invoker failed", {"error": text}, "client")


def log_offline_work() -> None:
    """Let what works on files log as etcdutl does, for people to read."""
    from balsad.observe.logs import set_up

    set_up(form="console")
