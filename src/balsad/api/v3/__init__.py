"""The gRPC services, a file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balsad.api.v3 import health
from balsad.api.v3.auth import AuthApi
from balsad.api.v3.cluster import ClusterApi
from balsad.api.v3.door import Door
from balsad.api.v3.kv import KvApi
from balsad.api.v3.lease import LeaseApi
from balsad.api.v3.maintenance import MaintenanceApi
from balsad.api.v3.watch import WatchApi

if TYPE_CHECKING:
    from balsad.server.service import Service
    from balsad.transport import RpcServer

__all__ = ["GrpcServices", "register_services"]


class GrpcServices:
    """The registered services, as far as others ask them anything."""

    def __init__(self, door: Door, kv: KvApi) -> None:
        self.door = door
        self.kv = kv


def register_services(server: RpcServer, service: Service) -> GrpcServices:
    """Make `server` serve all gRPC services of `service`."""
    door = Door(service)
    kv = KvApi(service, door)
    kv.register(server)
    WatchApi(service, door).register(server)
    LeaseApi(service, door).register(server)
    ClusterApi(service, door).register(server)
    MaintenanceApi(service, door).register(server)
    AuthApi(service, door).register(server)
    health.register(server)
    return GrpcServices(door, kv)
