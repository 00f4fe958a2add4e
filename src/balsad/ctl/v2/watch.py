"""`watch` and `exec-watch`. Source: etcd etcdctl/ctlv2/command/watch_command.go, exec_watch_command.go."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

from balsad.ctl.console import EXIT_BAD_ARGS, EXIT_ERROR, Exit
from balsad.ctl.v2.endpoints import Endpoints, Request, V2ClientError
from balsad.ctl.v2.keys import Response, key_path, print_response, read_response
from balsad.ctl.v2.session import Session


def watch(session: Session) -> None:
    endpoints = session.connect()
    key = session.key()
    recursive = session.flags.on("recursive")
    end_well_when_interrupted(session)
    for response in _events(session, endpoints, key, recursive=recursive):
        if response.node.get("dir"):
            continue
        if recursive:
            session.console.print(f"[{response.action}] {response.node.get('key', '')}")
        print_response(session, response)
        session.console.flush()
        if not session.flags.on("forever"):
            return


def exec_watch(session: Session) -> None:
    endpoints = session.connect()
    args = session.args
    if len(args) < 2:
        session.fail("key and command to exec required", EXIT_BAD_ARGS)
    if "--" in args[1:]:
        # As etcdctl: whatever stands in the second place is taken for the dashes.
        key, command = args[0], args[2:]
    else:
        key, command = args[-1], args[:-1]
    end_well_when_interrupted(session)
    running: list[subprocess.Popen[bytes]] = []
    for response in _events(session, endpoints, key, recursive=session.flags.on("recursive")):
        node = response.node
        if node.get("dir"):
            session.console.error(f"Ignored dir {node.get('key', '')} change")
            continue
        running = [process for process in running if process.poll() is None]
        environment = {
            **os.environ,
            "ETCD_WATCH_ACTION": response.action,
            "ETCD_WATCH_MODIFIED_INDEX": str(node.get("modifiedIndex", 0)),
            "ETCD_WATCH_KEY": node.get("key", ""),
            "ETCD_WATCH_VALUE": node.get("value", ""),
        }
        try:
            running.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL))
        except (OSError, ValueError, IndexError) as error:
            session.console.error(f"exec: {command[0] if command else ''}: {error}")
            raise Exit(EXIT_ERROR) from error


def _events(session: Session, endpoints: Endpoints, key: str, *, recursive: bool) -> Iterator[Response]:
    """Every event from --after-index on, one request each; a refusal ends the command."""
    after = session.flags.index("after-index")
    wait_index = after + 1 if after else 0
    session.console.flush()
    while True:
        query = {"wait": "true", "waitIndex": str(wait_index), "recursive": str(recursive).lower()}
        request = Request(method="GET", path=key_path(key), query=query, waits=True)
        try:
            answer = endpoints.ask(request, None)
            if answer.status == 200 and not answer.body:
                continue  # the server has waited long enough
            response = read_response(answer)
        except V2ClientError as error:
            session.fail(error)
        wait_index = response.node.get("modifiedIndex", 0) + 1
        yield response


def end_well_when_interrupted(session: Session) -> None:
    """An interrupt ends the command with status 0."""

    def end(_number: int, _frame: object) -> None:
        session.console.flush()
        os._exit(0)

    signal.signal(signal.SIGINT, end)
