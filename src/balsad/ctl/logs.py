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


def log_failure(console: Console, client: int, endpoint: str, attempt: int, text: str) -> None:
    """One attempt of a unary call that failed, as etcd's client says it; it names itself, and its first endpoint."""
    seconds, zone = time.time(), time.strftime("%z")
    zone = "Z" if zone in ("", "+0000") else zone
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))
    _scheme, mark, rest = endpoint.partition("://")
    target = f"etcd-endpoints://{client:#x}/{rest if mark else endpoint}"
    console.error(
        f'{{"level":"warn","ts":"{stamp}.{int(seconds * 1000) % 1000:03d}{zone}","logger":"etcd-client",'
        f'"caller":"v3/retry_interceptor.go:62","msg":"retrying of unary invoker failed","target":{quote(target)},'
        f'"attempt":{attempt},"error":{quote(text)}}}'
    )


def unreachable(error: BaseException) -> str:
    """Why no endpoint could be reached."""
    return (
        "rpc error: code = DeadlineExceeded desc = latest balancer error: last connection error: "
        f'connection error: desc = "transport: {error}"'
    )


def log_offline_work() -> None:
    """Let what works on files log as etcdutl does, for people to read."""
    from balsad.observe.logs import set_up

    set_up(form="console")
