"""The v2 API over HTTP: keys, members, machines, statistics, users and roles."""

from balsad.api.v2.mounts import v2_mounts

__all__ = ["v2_mounts"]
