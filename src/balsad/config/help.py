"""What `etcd --help` prints: the usage on stderr, the flags on stdout. Both as etcd 3.5.1 prints them."""

from __future__ import annotations

from typing import Final

from balsad.config.flag_kinds import Flag
from balsad.config.listed_flags import LISTED

USAGE: Final = """Usage:

  etcd [flags]
    Start an etcd server.

  etcd --version
    Show the version of etcd.

  etcd -h | --help
    Show the help information about etcd.

  etcd --config-file
    Path to the server configuration file. Note that if a configuration file is provided, \
other command line flags and environment variables will be ignored.

  etcd gateway
    Run the stateless pass-through etcd TCP connection forwarding proxy.

  etcd grpc-proxy
    Run the stateless etcd v3 gRPC L7 reverse proxy.

"""

_CAUTION: Final = "CAUTIOUS with unsafe flag! It may break the guarantees given by the consensus protocol!"


def flags_help() -> str:
    """A stanza for every listed flag."""
    parts = ["\n"]
    for section in LISTED:
        parts.append(f"{section.title}:\n")
        parts.extend(_stanza(flag) for flag in section.flags)
        parts.append("\n")
    parts.append(f"{_CAUTION}\n\n")
    return "".join(parts)


def _stanza(flag: Flag) -> str:
    shown = f" {flag.shown}" if flag.shown else ""
    # Two of etcd's lines begin with a tab instead of four spaces.
    lines = (line if line.startswith("\t") else f"    {line}" for line in flag.help.split("\n"))
    return f"  --{flag.name}{shown}\n" + "".join(f"{line}\n" for line in lines)
