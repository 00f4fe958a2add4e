"""All commands of etcdctl 3.5.1 with their flags and help texts.

Source: etcd etcdctl/ctlv3.
"""

from __future__ import annotations

from typing import Final

from balsad.ctl.command import Command
from balsad.ctl.flags import BOOL, DURATION, INT, INT64, STRING, STRINGS, Flag

_SECOND_NS: Final = 1_000_000_000
_COMMANDS: Final = "balsad.ctl.commands."


def _bool(name: str, usage: str, default: bool = False, shorthand: str = "") -> Flag:
    return Flag(BOOL, name, default, usage, shorthand)


def _str(name: str, usage: str, default: str = "", shorthand: str = "") -> Flag:
    return Flag(STRING, name, default, usage, shorthand)


def global_flags() -> list[Flag]:
    return [
        Flag(STRINGS, "endpoints", ["127.0.0.1:2379"], "gRPC endpoints"),
        _bool("debug", "enable client-side debug logging"),
        _str("write-out", "set the output format (fields, json, protobuf, simple, table)", "simple", "w"),
        _bool("hex", "print byte strings as hex encoded strings"),
        Flag(DURATION, "dial-timeout", 2 * _SECOND_NS, "dial timeout for client connections"),
        Flag(
            DURATION,
            "command-timeout",
            5 * _SECOND_NS,
            "timeout for short running command (excluding dial timeout)",
        ),
        Flag(DURATION, "keepalive-time", 2 * _SECOND_NS, "keepalive time for client connections"),
        Flag(DURATION, "keepalive-timeout", 6 * _SECOND_NS, "keepalive timeout for client connections"),
        _bool("insecure-transport", "disable transport security for client connections", True),
        _bool("insecure-discovery", "accept insecure SRV records describing cluster endpoints", True),
        _bool(
            "insecure-skip-tls-verify",
            "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)",
        ),
        _str("cert", "identify secure client using this TLS certificate file"),
        _str("key", "identify secure client using this TLS key file"),
        _str("cacert", "verify certificates of TLS-enabled secure servers using this CA bundle"),
        _str("user", "username[:password] for authentication (prompt if password is not supplied)"),
        _str(
            "password",
            "password for authentication (if this option is used, --user option shouldn't include password)",
        ),
        _str("discovery-srv", "domain name to query for SRV records describing cluster endpoints", "", "d"),
        _str("discovery-srv-name", "service name to query when using DNS discovery"),
    ]


def get_command() -> Command:
    return Command(
        "get [options] <key> [range_end]",
        "Gets the key or a range of keys",
        run=_COMMANDS + "get:run",
        flags=[
            _str("consistency", "Linearizable(l) or Serializable(s)", "l"),
            _str("order", "Order of results; ASCEND or DESCEND (ASCEND by default)"),
            _str("sort-by", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION"),
            Flag(INT64, "limit", 0, "Maximum number of results"),
            _bool("prefix", "Get keys with matching prefix"),
            _bool("from-key", "Get keys that are greater than or equal to the given key using byte compare"),
            Flag(INT64, "rev", 0, "Specify the kv revision"),
            _bool("keys-only", "Get only the keys"),
            _bool("count-only", "Get only the count"),
            _bool("print-value-only", 'Only write values when using the "simple" output format'),
        ],
    )


_PUT_LONG: Final = """
Puts the given key into the store.

When <value> begins with '-', <value> is interpreted as a flag.
Insert '--' for workaround:

$ put <key> -- <value>
$ put -- <key> <value>

If <value> isn't given as a command line argument and '--ignore-value' is not specified,
this command tries to read the value from standard input.

If <lease> isn't given as a command line argument and '--ignore-lease' is not specified,
this command tries to read the value from standard input.

For example,
$ cat file | put <key>
will store the content of the file to <key>.
"""


def put_command() -> Command:
    return Command(
        "put [options] <key> <value> (<value> can also be given from stdin)",
        "Puts the given key into the store",
        run=_COMMANDS + "put:run",
        long=_PUT_LONG,
        flags=[
            _str("lease", "lease ID (in hexadecimal) to attach to the key", "0"),
            _bool("prev-kv", "return the previous key-value pair before modification"),
            _bool("ignore-value", "updates the key using its current value"),
            _bool("ignore-lease", "updates the key using its current lease"),
        ],
    )


def del_command() -> Command:
    return Command(
        "del [options] <key> [range_end]",
        "Removes the specified key or range of keys [key, range_end)",
        run=_COMMANDS + "delete:run",
        flags=[
            _bool("prefix", "delete keys with matching prefix"),
            _bool("prev-kv", "return deleted key-value pairs"),
            _bool("from-key", "delete keys that are greater than or equal to the given key using byte compare"),
        ],
    )


def watch_command() -> Command:
    return Command(
        "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
        "Watches events stream on keys or prefixes",
        run=_COMMANDS + "watch:run",
        flags=[
            _bool("interactive", "Interactive mode", shorthand="i"),
            _bool("prefix", "Watch on a prefix if prefix is set"),
            Flag(INT64, "rev", 0, "Revision to start watching"),
            _bool("prev-kv", "get the previous key-value pair before the event happens"),
            _bool("progress-notify", "get periodic watch progress notification from server"),
        ],
    )


def _cluster_flag() -> Flag:
    return _bool("cluster", "use all endpoints from the cluster member list")


def _endpoint() -> Command:
    module = _COMMANDS + "endpoint:"
    return Command(
        "endpoint <subcommand>",
        "Endpoint related commands",
        persistent_flags=[_cluster_flag()],
        commands=[
            Command(
                "health",
                "Checks the healthiness of endpoints specified in `--endpoints` flag",
                run=module + "health",
            ),
            Command(
                "status",
                "Prints out the status of endpoints specified in `--endpoints` flag",
                run=module + "status",
                long="When --write-out is set to simple, this command prints out comma-separated status lists "
                "for each endpoint.\nThe items in the lists are endpoint, ID, version, db size, is leader, "
                "is learner, raft term, raft index, raft applied index, errors.\n",
            ),
            Command(
                "hashkv",
                "Prints the KV history hash for each endpoint in --endpoints",
                run=module + "hashkv",
                persistent_flags=[Flag(INT64, "rev", 0, "maximum revision to hash (default: all revisions)")],
            ),
        ],
    )


def _lease() -> Command:
    module = _COMMANDS + "lease:"
    return Command(
        "lease <subcommand>",
        "Lease related commands",
        commands=[
            Command("grant <ttl>", "Creates leases", run=module + "grant"),
            Command("revoke <leaseID>", "Revokes leases", run=module + "revoke"),
            Command(
                "timetolive <leaseID> [options]",
                "Get lease information",
                run=module + "time_to_live",
                flags=[_bool("keys", "Get keys attached to this lease")],
            ),
            Command("list", "List all active leases", run=module + "list_leases"),
            Command(
                "keep-alive [options] <leaseID>",
                "Keeps leases alive (renew)",
                run=module + "keep_alive",
                flags=[
                    _bool("once", "Resets the keep-alive time to its original value and cobrautl.Exits immediately")
                ],
            ),
        ],
    )


def _downgrade() -> Command:
    module = _COMMANDS + "downgrade:"
    return Command(
        "downgrade <TARGET_VERSION>",
        "Downgrade related commands",
        extra=True,
        commands=[
            Command(
                "validate <TARGET_VERSION>",
                "Validate downgrade capability before starting downgrade",
                run=module + "validate",
            ),
            Command("enable <TARGET_VERSION>", "Start a downgrade action to cluster", run=module + "enable"),
            Command("cancel", "Cancel the ongoing downgrade action to cluster", run=module + "cancel"),
        ],
    )


def _member() -> Command:
    module = _COMMANDS + "member:"
    return Command(
        "member <subcommand>",
        "Membership related commands",
        commands=[
            Command(
                "add <memberName> [options]",
                "Adds a member into the cluster",
                run=module + "add",
                flags=[
                    _str("peer-urls", "comma separated peer URLs for the new member."),
                    _bool("learner", "indicates if the new member is raft learner"),
                ],
            ),
            Command("remove <memberID>", "Removes a member from the cluster", run=module + "remove"),
            Command(
                "update <memberID> [options]",
                "Updates a member in the cluster",
                run=module + "update",
                flags=[_str("peer-urls", "comma separated peer URLs for the updated member.")],
            ),
            Command(
                "list",
                "Lists all members in the cluster",
                run=module + "list_members",
                long="When --write-out is set to simple, this command prints out comma-separated member lists "
                "for each endpoint.\nThe items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, "
                "Is Learner.\n",
            ),
            Command(
                "promote <memberID>",
                "Promotes a non-voting member in the cluster",
                run=module + "promote",
                long="Promotes a non-voting learner member to a voting one in the cluster.\n",
            ),
        ],
    )


def _snapshot() -> Command:
    module = _COMMANDS + "snapshot:"
    return Command(
        "snapshot <subcommand>",
        "Manages etcd node snapshots",
        commands=[
            Command("save <filename>", "Stores an etcd node backend snapshot to a given file", run=module + "save"),
            Command(
                "restore <filename> [options]",
                "Restores an etcd member snapshot to an etcd directory",
                run=module + "restore",
                long="Moved to `etcdctl snapshot restore ...`\n",
                flags=restore_flags("Path to the data directory"),
            ),
            Command(
                "status <filename>",
                "[deprecated] Gets backend snapshot status of a given file",
                run=module + "status",
                long="When --write-out is set to simple, this command prints out comma-separated status lists "
                "for each endpoint.\nThe items in the lists are hash, revision, total keys, total size.\n"
                "\nMoved to 'etcdctl snapshot status ...'\n",
            ),
        ],
    )


def restore_flags(data_dir_usage: str) -> list[Flag]:
    """The flags of `snapshot restore`, in both tools."""
    return [
        _str("data-dir", data_dir_usage),
        _str("wal-dir", "Path to the WAL directory (use --data-dir if none given)"),
        _str(
            "initial-cluster",
            "Initial cluster configuration for restore bootstrap",
            "default=http://localhost:2380",
        ),
        _str(
            "initial-cluster-token",
            "Initial cluster token for the etcd cluster during restore bootstrap",
            "etcd-cluster",
        ),
        _str(
            "initial-advertise-peer-urls",
            "List of this member's peer URLs to advertise to the rest of the cluster",
            "http://localhost:2380",
        ),
        _str("name", "Human-readable name for this member", "default"),
        _bool(
            "skip-hash-check",
            "Ignore snapshot integrity hash value (required if copied from data directory)",
        ),
    ]


def _make_mirror() -> Command:
    return Command(
        "make-mirror [options] <destination>",
        "Makes a mirror at the destination etcd cluster",
        run=_COMMANDS + "make_mirror:run",
        flags=[
            _str("prefix", "Key-value prefix to mirror"),
            _str(
                "dest-prefix",
                "destination prefix to mirror a prefix to a different prefix in the destination cluster",
            ),
            _bool("no-dest-prefix", "mirror key-values to the root of the destination cluster"),
            _str("dest-cert", "Identify secure client using this TLS certificate file for the destination cluster"),
            _str("dest-key", "Identify secure client using this TLS key file"),
            _str("dest-cacert", "Verify certificates of TLS enabled secure servers using this CA bundle"),
            _bool("dest-insecure-transport", "Disable transport security for client connections", True),
            _str(
                "dest-user",
                "Destination username[:password] for authentication (prompt if password is not supplied)",
            ),
            _str(
                "dest-password",
                "Destination password for authentication "
                "(if this option is used, --user option shouldn't include password)",
            ),
        ],
    )


def _auth() -> Command:
    module = _COMMANDS + "auth:"
    return Command(
        "auth <enable or disable>",
        "Enable or disable authentication",
        commands=[
            Command("enable", "Enables authentication", run=module + "enable"),
            Command("disable", "Disables authentication", run=module + "disable"),
            Command("status", "Returns authentication status", run=module + "status"),
        ],
    )


def _user() -> Command:
    module = _COMMANDS + "user:"
    return Command(
        "user <subcommand>",
        "User related commands",
        commands=[
            Command(
                "add <user name or user:password> [options]",
                "Adds a new user",
                run=module + "add",
                flags=[
                    _bool("interactive", "Read password from stdin instead of interactive terminal", True),
                    _str("new-user-password", "Supply password from the command line flag"),
                    _bool("no-password", "Create a user without password (CN based auth only)"),
                ],
            ),
            Command("delete <user name>", "Deletes a user", run=module + "delete"),
            Command(
                "get <user name> [options]",
                "Gets detailed information of a user",
                run=module + "get",
                flags=[_bool("detail", "Show permissions of roles granted to the user")],
            ),
            Command("list", "Lists all users", run=module + "list_users"),
            Command(
                "passwd <user name> [options]",
                "Changes password of user",
                run=module + "passwd",
                flags=[
                    _bool(
                        "interactive",
                        "If true, read password from stdin instead of interactive terminal",
                        True,
                    )
                ],
            ),
            Command("grant-role <user name> <role name>", "Grants a role to a user", run=module + "grant_role"),
            Command("revoke-role <user name> <role name>", "Revokes a role from a user", run=module + "revoke_role"),
        ],
    )


def _role() -> Command:
    module = _COMMANDS + "role:"
    return Command(
        "role <subcommand>",
        "Role related commands",
        commands=[
            Command("add <role name>", "Adds a new role", run=module + "add"),
            Command("delete <role name>", "Deletes a role", run=module + "delete"),
            Command("get <role name>", "Gets detailed information of a role", run=module + "get"),
            Command("list", "Lists all roles", run=module + "list_roles"),
            Command(
                "grant-permission [options] <role name> <permission type> <key> [endkey]",
                "Grants a key to a role",
                run=module + "grant_permission",
                flags=[
                    _bool("prefix", "grant a prefix permission"),
                    _bool(
                        "from-key",
                        "grant a permission of keys that are greater than or equal to the given key using byte compare",
                    ),
                ],
            ),
            Command(
                "revoke-permission <role name> <key> [endkey]",
                "Revokes a key from a role",
                run=module + "revoke_permission",
                flags=[
                    _bool("prefix", "revoke a prefix permission"),
                    _bool(
                        "from-key",
                        "revoke a permission of keys that are greater than or equal to the given key "
                        "using byte compare",
                    ),
                ],
            ),
        ],
    )


def _check_flags(kind: str, article_kind: str) -> list[Flag]:
    return [
        _str(
            "load",
            f"The {article_kind} check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge)",
            "s",
        ),
        _str("prefix", f"The prefix for writing the {article_kind} check's keys.", f"/etcdctl-check-{kind}/"),
        _bool("auto-compact", "Compact storage with last revision after test is finished."),
        _bool("auto-defrag", "Defragment storage after test is finished."),
    ]


def _check() -> Command:
    return Command(
        "check <subcommand>",
        "commands for checking properties of the etcd cluster",
        commands=[
            Command(
                "perf [options]",
                "Check the performance of the etcd cluster",
                run=_COMMANDS + "check_perf:run",
                flags=_check_flags("perf", "performance"),
            ),
            Command(
                "datascale [options]",
                "Check the memory usage of holding data for different workloads on a given server endpoint.",
                run=_COMMANDS + "check_datascale:run",
                long="If no endpoint is provided, localhost will be used. If multiple endpoints are provided, "
                "first endpoint will be used.",
                flags=_check_flags("datascale", "datascale"),
            ),
        ],
    )


def make_root() -> Command:
    """The whole tree."""
    return Command(
        "etcdctl",
        "A simple command line client for etcd3.",
        persistent_flags=global_flags(),
        commands=[
            get_command(),
            put_command(),
            del_command(),
            Command(
                "txn [options]",
                "Txn processes all the requests in one transaction",
                run=_COMMANDS + "txn:run",
                flags=[_bool("interactive", "Input transaction in interactive mode", shorthand="i")],
            ),
            Command(
                "compaction [options] <revision>",
                "Compacts the event history in etcd",
                run=_COMMANDS + "compaction:run",
                flags=[_bool("physical", "'true' to wait for compaction to physically remove all old revisions")],
            ),
            Command(
                "alarm <subcommand>",
                "Alarm related commands",
                commands=[
                    Command("disarm", "Disarms all alarms", run=_COMMANDS + "alarm:disarm"),
                    Command("list", "Lists all alarms", run=_COMMANDS + "alarm:list_alarms"),
                ],
            ),
            Command(
                "defrag",
                "Defragments the storage of the etcd members with given endpoints",
                run=_COMMANDS + "defrag:run",
                flags=[_str("data-dir", "Optional. If present, defragments a data directory not in use by etcd.")],
                persistent_flags=[_cluster_flag()],
            ),
            _endpoint(),
            Command(
                "move-leader <transferee-member-id>",
                "Transfers leadership to another etcd cluster member.",
                run=_COMMANDS + "move_leader:run",
            ),
            watch_command(),
            _downgrade(),
            Command("version", "Prints the version of etcdctl", run=_COMMANDS + "version:run"),
            _lease(),
            _member(),
            _snapshot(),
            _make_mirror(),
            Command(
                "lock <lockname> [exec-command arg1 arg2 ...]",
                "Acquires a named lock",
                run=_COMMANDS + "lock:run",
                flags=[Flag(INT, "ttl", 10, "timeout for session")],
            ),
            Command(
                "elect <election-name> [proposal]",
                "Observes and participates in leader election",
                run=_COMMANDS + "elect:run",
                flags=[_bool("listen", "observation mode", shorthand="l")],
            ),
            _auth(),
            _user(),
            _role(),
            _check(),
        ],
    )
