"""The commands of etcdctl's v2 mode and their flags.

Source: etcd etcdctl/ctlv2/ctl.go and the commands below it.
"""

from __future__ import annotations

from typing import Final

from balsad.ctl.v2.app import Command
from balsad.ctl.v2.flags import DURATION, INT, STRING, STRINGS, Flag

GLOBAL_FLAGS: Final = (
    Flag(names=("debug",), usage="output cURL commands which can be used to reproduce the request"),
    Flag(names=("no-sync",), usage="don't synchronize cluster information before sending request"),
    Flag(
        names=("output", "o"),
        kind=STRING,
        default="simple",
        value_name="simple",
        usage="output response in the given format (simple, `extended` or `json`)",
    ),
    Flag(
        names=("discovery-srv", "D"),
        kind=STRING,
        usage="domain name to query for SRV records describing cluster endpoints",
    ),
    Flag(names=("insecure-discovery",), usage="accept insecure SRV records describing cluster endpoints"),
    Flag(names=("peers", "C"), kind=STRING, usage='DEPRECATED - "--endpoints" should be used instead'),
    Flag(names=("endpoint",), kind=STRING, usage='DEPRECATED - "--endpoints" should be used instead'),
    Flag(
        names=("endpoints",),
        kind=STRING,
        usage="a comma-delimited list of machine addresses in the cluster "
        '(default: "http://127.0.0.1:2379,http://127.0.0.1:4001")',
    ),
    Flag(names=("cert-file",), kind=STRING, usage="identify HTTPS client using this SSL certificate file"),
    Flag(names=("key-file",), kind=STRING, usage="identify HTTPS client using this SSL key file"),
    Flag(names=("ca-file",), kind=STRING, usage="verify certificates of HTTPS-enabled servers using this CA bundle"),
    Flag(
        names=("username", "u"),
        kind=STRING,
        usage="provide username[:password] and prompt if password is not supplied.",
    ),
    Flag(names=("timeout",), kind=DURATION, default="2s", usage="connection timeout per request"),
    Flag(
        names=("total-timeout",),
        kind=DURATION,
        default="5s",
        usage="timeout for the command execution (except watch)",
    ),
)

_TTL: Final = Flag(names=("ttl",), kind=INT, default="0", usage="key time-to-live in seconds")
_SORT: Final = Flag(names=("sort",), usage="returns result in sorted order")
_QUORUM: Final = Flag(names=("quorum", "q"), usage="require quorum for get request")
_AFTER_INDEX: Final = Flag(names=("after-index",), kind=INT, default="0", usage="watch after the given index")
_ROLES: Final = Flag(names=("roles",), kind=STRINGS, usage="List of roles to grant or revoke")

_BACKUP_DESCRIPTION: Final = """Performs an offline backup of etcd directory.

Moved to `./etcdutl backup` and going to be decomissioned in v3.5

The recommended (online) backup command is: `./etcdctl snapshot save ...`.

"""
_SET_DESCRIPTION: Final = """Set sets the value of a key.

   When <value> begins with '-', <value> is interpreted as a flag.
   Insert '--' for workaround:

   $ set -- <key> <value>"""


def _permissions(verb: str) -> tuple[Flag, ...]:
    granted, access = ("Grant", "{}-only") if verb == "grant" else ("Revoke", "{}")
    return (
        Flag(names=("path",), kind=STRING, usage=f"Path {granted.lower().removesuffix('e')}ed for the role to access"),
        Flag(names=("read",), usage=f"{granted} {access.format('read')} access"),
        Flag(names=("write",), usage=f"{granted} {access.format('write')} access"),
        Flag(names=("readwrite", "rw"), usage=f"{granted} read-write access"),
    )


COMMANDS: Final = (
    Command(
        name="backup",
        usage="--data-dir=... --backup-dir={output}",
        usage_text="[deprecated] offline backup an etcd directory.",
        description=_BACKUP_DESCRIPTION,
        run="offline:back_up",
        flags=(
            Flag(names=("data-dir",), kind=STRING, usage="Path to the etcd data dir"),
            Flag(names=("wal-dir",), kind=STRING, usage="Path to the etcd wal dir"),
            Flag(names=("backup-dir",), kind=STRING, usage="Path to the backup dir"),
            Flag(names=("backup-wal-dir",), kind=STRING, usage="Path to the backup wal dir"),
            Flag(names=("with-v3",), usage="Backup v3 backend data"),
        ),
    ),
    Command(
        name="cluster-health",
        usage="check the health of the etcd cluster",
        arguments=" ",
        run="health:cluster_health",
        flags=(Flag(names=("forever", "f"), usage="forever check the health every 10 second until CTRL+C"),),
    ),
    Command(
        name="mk",
        usage="make a new key with a given value",
        arguments="<key> <value>",
        run="keys:make",
        flags=(Flag(names=("in-order",), usage="create in-order key under directory <key>"), _TTL),
    ),
    Command(name="mkdir", usage="make a new directory", arguments="<key>", run="keys:make_dir", flags=(_TTL,)),
    Command(
        name="rm",
        usage="remove a key or a directory",
        arguments="<key>",
        run="keys:remove",
        flags=(
            Flag(names=("dir",), usage="removes the key if it is an empty directory or a key-value pair"),
            Flag(names=("recursive", "r"), usage="removes the key and all child keys(if it is a directory)"),
            Flag(names=("with-value",), kind=STRING, usage="previous value"),
            Flag(names=("with-index",), kind=INT, default="0", usage="previous index"),
        ),
    ),
    Command(
        name="rmdir",
        usage="removes the key if it is an empty directory or a key-value pair",
        arguments="<key>",
        run="keys:remove_dir",
    ),
    Command(name="get", usage="retrieve the value of a key", arguments="<key>", run="keys:get", flags=(_SORT, _QUORUM)),
    Command(
        name="ls",
        usage="retrieve a directory",
        arguments="[key]",
        run="keys:list_dir",
        flags=(
            _SORT,
            Flag(names=("recursive", "r"), usage="returns all key names recursively for the given path"),
            Flag(names=("p",), usage="append slash (/) to directories"),
            _QUORUM,
        ),
    ),
    Command(
        name="set",
        usage="set the value of a key",
        arguments="<key> <value>",
        description=_SET_DESCRIPTION,
        run="keys:set_key",
        flags=(
            _TTL,
            Flag(names=("swap-with-value",), kind=STRING, usage="previous value"),
            Flag(names=("swap-with-index",), kind=INT, default="0", usage="previous index"),
        ),
    ),
    Command(
        name="setdir",
        usage="create a new directory or update an existing directory TTL",
        arguments="<key>",
        run="keys:set_dir",
        flags=(_TTL,),
    ),
    Command(
        name="update",
        usage="update an existing key with a given value",
        arguments="<key> <value>",
        run="keys:update",
        flags=(_TTL,),
    ),
    Command(
        name="updatedir",
        usage="update an existing directory",
        arguments="<key> <value>",
        run="keys:update_dir",
        flags=(_TTL,),
    ),
    Command(
        name="watch",
        usage="watch a key for changes",
        arguments="<key>",
        run="watch:watch",
        flags=(
            Flag(names=("forever", "f"), usage="forever watch a key until CTRL+C"),
            _AFTER_INDEX,
            Flag(names=("recursive", "r"), usage="returns all values for key and child keys"),
        ),
    ),
    Command(
        name="exec-watch",
        usage="watch a key for changes and exec an executable",
        arguments="<key> <command> [args...]",
        run="watch:exec_watch",
        flags=(_AFTER_INDEX, Flag(names=("recursive", "r"), usage="watch all values for key and child keys")),
    ),
    Command(
        name="member",
        usage="member add, remove and list subcommands",
        commands=(
            Command(name="list", usage="enumerate existing cluster members", arguments=" ", run="members:list_all"),
            Command(
                name="add",
                usage="add a new member to the etcd cluster",
                arguments="<name> <peerURL>",
                run="members:add",
            ),
            Command(
                name="remove",
                usage="remove an existing member from the etcd cluster",
                arguments="<memberID>",
                run="members:remove",
            ),
            Command(
                name="update",
                usage="update an existing member in the etcd cluster",
                arguments="<memberID> <peerURLs>",
                run="members:update",
            ),
        ),
    ),
    Command(
        name="user",
        usage="user add, grant and revoke subcommands",
        commands=(
            Command(name="add", usage="add a new user for the etcd cluster", arguments="<user>", run="users:add"),
            Command(name="get", usage="get details for a user", arguments="<user>", run="users:get"),
            Command(name="list", usage="list all current users", arguments="<user>", run="users:list_all"),
            Command(name="remove", usage="remove a user for the etcd cluster", arguments="<user>", run="users:remove"),
            Command(
                name="grant",
                usage="grant roles to an etcd user",
                arguments="<user>",
                run="users:grant",
                flags=(_ROLES,),
            ),
            Command(
                name="revoke",
                usage="revoke roles for an etcd user",
                arguments="<user>",
                run="users:revoke",
                flags=(_ROLES,),
            ),
            Command(name="passwd", usage="change password for a user", arguments="<user>", run="users:change_password"),
        ),
    ),
    Command(
        name="role",
        usage="role add, grant and revoke subcommands",
        commands=(
            Command(name="add", usage="add a new role for the etcd cluster", arguments="<role> ", run="roles:add"),
            Command(name="get", usage="get details for a role", arguments="<role>", run="roles:get"),
            Command(name="list", usage="list all roles", arguments=" ", run="roles:list_all"),
            Command(name="remove", usage="remove a role from the etcd cluster", arguments="<role>", run="roles:remove"),
            Command(
                name="grant",
                usage="grant path matches to an etcd role",
                arguments="<role>",
                run="roles:grant",
                flags=_permissions("grant"),
            ),
            Command(
                name="revoke",
                usage="revoke path matches for an etcd role",
                arguments="<role>",
                run="roles:revoke",
                flags=_permissions("revoke"),
            ),
        ),
    ),
    Command(
        name="auth",
        usage="overall auth controls",
        commands=(
            Command(name="enable", usage="enable auth access controls", arguments=" ", run="users:enable_auth"),
            Command(name="disable", usage="disable auth access controls", arguments=" ", run="users:disable_auth"),
        ),
    ),
)
