"""The gRPC services, a file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.api.v3 import health
from balsad.api.v3.cluster import ClusterApi
from balsad.api.v3.door import Door
from balsad.api.v3.kv import KvApi
from balsad.api.v3.lease import LeaseApi
from balsad.api.v3.maintenance import MaintenanceApi
from balsad.api.v3.watch import WatchApi

if TYPE_CHECKING:
    from balsad.server.service import Service
    from balsad.transport import RpcServer

__all__ = ["Door", "register_services"]


def register_services(server: RpcServer, service: Service) -> Door:
    """Make `server` serve all gRPC services of `service`."""
    door = Door(service)
    KvApi(service, door).register(server)
    WatchApi(service, door).register(server)
    LeaseApi(service, door).register(server)
    ClusterApi(service, door).register(server)
    MaintenanceApi(service, door).register(server)
    health.register(server)
    return door
