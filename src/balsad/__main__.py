"""The server's command line: `etcd [flags]`.

Source: etcd server/etcdmain/main.go and etcd.go.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterable
from typing import Final

from balsad import config as configuration
from balsad.config import ClusterFullError, Loaded, LogSettings, Note, ServerConfig, StartError, form
from balsad.observe import logs

_log: Final = logs.get_logger("balsad.main")


def main(argv: list[str] | None = None) -> int:
    """Run a member until it ends; the process's exit code."""
    arguments = list(sys.argv if argv is None else argv)
    if not __debug__:
        print("etcd: invariants are checked by assertions, start Python without -O", file=sys.stderr)
        return 1
    if arguments[1:2] == ["gateway"]:
        from balsad.ctl import etcd_gateway

        etcd_gateway.main(arguments)
    if arguments[1:2] == ["grpc-proxy"]:
        from balsad.ctl import etcd_grpc_proxy

        etcd_grpc_proxy.main(arguments)
    loaded = configuration.load(arguments[1:], os.environ, configuration.default_host)
    sys.stdout.write(loaded.stdout)
    sys.stderr.write(loaded.stderr)
    logs.set_up(epoch_times=True)
    _tell(loaded.early_notes)
    if loaded.exit_code is not None:
        return loaded.exit_code
    logs.hook_uncaught()
    problem = loaded.problem
    if loaded.log_settings is not None:
        problem = _set_up_logs(loaded.log_settings) or problem
    return _start(arguments, loaded, problem)


def _start(arguments: list[str], loaded: Loaded, problem: str) -> int:
    _tell(loaded.notes)
    _log.info("Running: ", extra={"args": arguments})
    config = loaded.config
    if problem or config is None:
        _log.warning("failed to verify flags", extra={"error": problem})
        if loaded.lacks_advertise_urls:
            _log.warning("advertise client URLs are not set", extra={"error": problem})
        return 1
    _tell(loaded.notes_after)
    _tell([form.form_note()])
    try:
        found = _look_at_data_dir(config.data_dir)
        configuration.check_start(config)
        # What there is already decides; a flag does for an empty folder.
        try:
            return _serve(config, is_proxy=found == "proxy" or (not found and config.proxy != "off"))
        except ClusterFullError:
            return _serve(config, is_proxy=True)
    except (StartError, OSError) as problem_found:
        reason = _in_words(problem_found)
        if isinstance(problem_found, StartError) and problem_found.headline:
            _log.critical(problem_found.headline, extra={"error": reason})
            return 1
        _log.warning("failed to start etcd", extra={"error": reason})
        _log.critical("discovery failed", extra={"error": reason})
        return 1


def _in_words(problem: StartError | OSError) -> str:
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.filename}: {problem.strerror.lower()}" if problem.filename else problem.strerror.lower()
    return str(problem)


def _serve(config: ServerConfig, *, is_proxy: bool) -> int:
    # Who is interrupted before there is anything to put in order just ends.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # What imports make stays: to look through it again and again finds nothing. `serve` turns the collector on.
    gc.disable()
    # Imported late: the answers above shall not wait for the rooms of a running member.
    from balsad.env.heap import keep_freed_memory
    from balsad.main import serve, serve_proxy

    keep_freed_memory()
    return serve_proxy(config) if is_proxy else serve(config)


def _tell(notes: Iterable[Note]) -> None:
    for note in notes:
        _log.log(logs.LEVELS[note.level], note.message, extra=note.fields)


def _set_up_logs(settings: LogSettings) -> str:
    """Why the logger could not be set up, or nothing."""
    try:
        logs.set_up(level=settings.level, form=settings.format, outputs=settings.outputs, rotation=settings.rotation)
    except OSError as reason:
        return str(reason)
    return ""


def _look_at_data_dir(path: str) -> str:
    """Whose the data folder is: `member`, `proxy`, or nobody's. Raises: StartError. Source: identifyDataDirOrDie."""
    try:
        names = sorted(os.listdir(path))
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise StartError(f"failed to list data directory {_in_words(error)}") from None
    for name in names:
        if name not in ("member", "proxy"):
            _log.warning("found invalid file under data directory", extra={"filename": name, "data-dir": path})
    if "proxy" in names and "member" in names:
        raise StartError("invalid datadir; both member and proxy directories exist")
    for kind in ("member", "proxy"):
        if kind in names:
            _log.info("server has been already initialized", extra={"data-dir": path, "dir-type": kind})
            return kind
    return ""


if __name__ == "__main__":
    sys.exit(main())
