"""/version, /metrics and /debug/vars.

Source: etcd server/etcdserver/api/etcdhttp/base.go, prometheus/client_golang promhttp, raft Status.MarshalJSON.
"""

from __future__ import annotations

import gc
import gzip
import json
from collections.abc import Sequence

from balsad.api.web.answers import OK, Handler, allows_get_only
from balsad.api.web.backend import RaftStatus, WebBackend
from balsad.config.versions import ETCD_VERSION
from balsad.observe.exposition import CONTENT_TYPE
from balsad.observe.metrics import Metrics
from balsad.observe.process import fd_limit, resident_bytes
from balsad.transport import HttpRequest, HttpResponder


def version_page(backend: WebBackend) -> Handler:
    def page(request: HttpRequest, responder: HttpResponder) -> None:
        if allows_get_only(request, responder):
            cluster = backend.cluster_version or "not_decided"
            body = f'{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{cluster}"}}'
            responder.respond(OK, {"Content-Type": "application/json"}, body.encode())

    return page


def metrics_page(metrics: Metrics) -> Handler:
    """Any method will do, as with promhttp."""

    def page(request: HttpRequest, responder: HttpResponder) -> None:
        headers = {"Content-Type": CONTENT_TYPE}
        body = metrics.render().encode()
        if _takes_gzip(request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, compresslevel=1, mtime=0)
        responder.respond(OK, headers, body)

    return page


def _takes_gzip(accepted: str) -> bool:
    return any(part.strip() == "gzip" or part.strip().startswith("gzip;") for part in accepted.split(","))


def vars_page(backend: WebBackend, command_line: Sequence[str]) -> Handler:
    def page(request: HttpRequest, responder: HttpResponder) -> None:
        if allows_get_only(request, responder):
            variables = {
                "cmdline": json.dumps(list(command_line), separators=(",", ":"), ensure_ascii=False),
                "file_descriptor_limit": str(fd_limit()),
                "memstats": _memory(),
                "raft.status": format_raft_status(backend.raft_status()),
            }
            body = ",\n".join(f'"{name}": {value}' for name, value in variables.items())
            headers = {"Content-Type": "application/json; charset=utf-8"}
            responder.respond(OK, headers, f"{{\n{body}\n}}\n".encode("utf-8", "replace"))

    return page


def _memory() -> str:
    """Of Go's runtime.MemStats what has a meaning here: memory from the system, collections made."""
    collections = sum(generation["collections"] for generation in gc.get_stats())
    return json.dumps({"Sys": resident_bytes(), "NumGC": collections}, separators=(",", ":"))


def format_raft_status(status: RaftStatus) -> str:
    progress = ",".join(
        f'"{member_id:x}":{{"match":{of.match},"next":{of.next},"state":"{of.state}"}}'
        for member_id, of in sorted(status.progress.items())
    )
    return (
        f'{{"id":"{status.id:x}","term":{status.term},"vote":"{status.vote:x}","commit":{status.commit},'
        f'"lead":"{status.lead:x}","raftState":"{status.state}","applied":{status.applied},'
        f'"progress":{{{progress}}},"leadtransferee":"{status.lead_transferee:x}"}}'
    )
