"""etcdctl with ETCDCTL_API=2: finds the command that the words mean and runs it.

Source: etcd etcdctl/ctlv2/ctl.go.
"""

from __future__ import annotations

from importlib import import_module

from balsad.ctl.console import Console


def run_v2(console: Console, args: list[str]) -> int:
    """Run it; gives its exit status. Raises: Exit, Failure."""
    from balsad.ctl.v2.app import find_command
    from balsad.ctl.v2.session import Session
    from balsad.ctl.v2.tree import COMMANDS, GLOBAL_FLAGS

    invocation = find_command(console, GLOBAL_FLAGS, COMMANDS, args)
    module, _, function = invocation.command.run.partition(":")
    getattr(import_module(f"balsad.ctl.v2.{module}"), function)(Session(console, invocation))
    return 0
