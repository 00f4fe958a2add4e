"""Users and roles, in worlds that have them: authentication comes under way, one user's permission comes and goes.

    Officer   founds the users, enables authentication and disables it, grants guests their keys and takes them back
    Guest     reads and writes those keys; whether it was let is judged by what the officer was told

Everybody else is root, and logs in when a member asks who it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from balsad.errors import PermissionNotGrantedError, RoleAlreadyExistError, UserAlreadyExistError
from balsad.proto import auth_pb2, rpc_pb2
from balsad.sim import rpc as told
from balsad.sim.history import DONE, REFUSED, PermissionStep
from balsad.sim.requests import Delete, Put, Range, Request, Txn, prefix_end
from balsad.sim.rpc import OK
from balsad.sim.workload import Asker

if TYPE_CHECKING:
    import random

    from google.protobuf.message import Message

    from balsad.sim.client import Answer, Client
    from balsad.sim.world import World

AUTH: Final = "/etcdserverpb.Auth/"
ROOT: Final = ("root", "secret of root")
GUEST: Final = ("guest", "secret of guest")
ROLE: Final = "guests"
FOLDER: Final = b"g/"
KEYS: Final = (b"g/0", b"g/1")
_THERE: Final = frozenset((UserAlreadyExistError.message, RoleAlreadyExistError.message))


class Officer(Asker):
    """One change after the other, each until it is known what became of it."""

    async def live(self) -> None:
        world, rnd = self.world, self.random
        await self.client.sleep(rnd.uniform(0.5, 6.0))
        for name, password in (ROOT, GUEST):
            role = "root" if name == "root" else ROLE
            await self._found("UserAdd", rpc_pb2.AuthUserAddRequest(name=name, password=password))
            await self._found("RoleAdd", rpc_pb2.AuthRoleAddRequest(name=role))
            await self._found("UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest(user=name, role=role))
        is_enabled = is_granted = False
        while not world.is_over:
            if not is_enabled or rnd.random() < 0.1:
                is_enabled = not is_enabled
                await self._change("enable" if is_enabled else "disable")
            else:
                is_granted = not is_granted
                await self._change("grant" if is_granted else "revoke")
            await self.client.sleep(rnd.expovariate(1.0 / 2.0))

    async def _found(self, method: str, request: Message) -> None:
        """Until it is there, by this try or one before that was not answered."""
        while not self.world.is_over:
            answer = await self._ask(method, request)
            if answer.code == OK or answer.text in _THERE:
                return
            await self._wait()

    async def _change(self, kind: str) -> None:
        """Until it is known to be so, or nothing matters any more."""
        allowed = auth_pb2.Permission(permType=auth_pb2.Permission.READWRITE, key=FOLDER, range_end=prefix_end(FOLDER))
        method, request = {
            "enable": ("AuthEnable", rpc_pb2.AuthEnableRequest()),
            "disable": ("AuthDisable", rpc_pb2.AuthDisableRequest()),
            "grant": ("RoleGrantPermission", rpc_pb2.AuthRoleGrantPermissionRequest(name=ROLE, perm=allowed)),
            "revoke": (
                "RoleRevokePermission",
                rpc_pb2.AuthRoleRevokePermissionRequest(role=ROLE, key=FOLDER, range_end=prefix_end(FOLDER)),
            ),
        }[kind]
        step = PermissionStep(kind, self.client.now)
        self.world.history.permissions.append(step)
        while not self.world.is_over:
            answer = await self._ask(method, request)
            # A try that was not answered may have done it.
            if answer.code == OK or answer.text == PermissionNotGrantedError.message:
                step.returned, step.outcome = self.client.now, DONE
                return
            if answer.code != told.REFUSED:
                step.is_tried_blindly = True
            await self._wait()

    async def _wait(self) -> None:
        self.home = self.random.choice(self.world.present())
        await self.client.sleep(self.random.uniform(0.05, 0.5))

    async def _ask(self, method: str, request: Message) -> Answer:
        message = request.SerializeToString()
        answer = await self.client.ask(self.target(), AUTH + method, message, self.world.plan.timeout_s)
        self.world.note("auth", method, answer.code, answer.text)
        return answer


class Guest(Asker):
    def __init__(self, world: World, client: Client, rnd: random.Random) -> None:
        super().__init__(world, client, rnd)
        client.user = GUEST
        self._written = 0

    def _request(self) -> Request:
        rnd = self.random
        key = rnd.choice(KEYS)
        self._written += 1
        value = b"%s:%d" % (self.client.name.encode(), self._written)
        dice = rnd.random()
        if dice < 0.4:
            return Put(key, value, wants_previous=rnd.random() < 0.3)
        if dice < 0.7:
            return Range(key)
        if dice < 0.8:
            return Range(FOLDER, prefix_end(FOLDER))
        if dice < 0.9:
            return Txn((), (Put(key, value), Range(key)))
        return Delete(key, wants_previous=True)

    async def live(self) -> None:
        world, rnd = self.world, self.random
        while not world.is_over:
            await self.client.sleep(rnd.expovariate(1.0 / world.plan.think_s))
            if world.is_over:
                return
            operation = await self.do(self._request())
            if operation.outcome != DONE and operation.outcome != REFUSED:
                self.home = rnd.choice(world.present())
