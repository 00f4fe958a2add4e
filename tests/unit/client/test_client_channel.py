"""Calls over real connections to a gRPC server that is not ours: retries, deadlines, tokens, endpoints.

Every test runs on the small loop and on asyncio.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from balsad.client import Client
from balsad.client.errors import CallTimeoutError, ClientClosedError, RpcError
from balsad.client.loops import SmallLoop, sleep
from balsad.client.messages import SnapshotResponse
from balsad.errors import AuthFailedError, EmptyKeyError, NoLeaderError, PermissionDeniedError
from balsad.proto import rpc_pb2 as rpc

Handler = Callable[[bytes, grpc.ServicerContext], bytes]


class Server(grpc.GenericRpcHandler):
    """A gRPC server whose answers are the test's: `on[method]` takes the request's bytes."""

    def __init__(self) -> None:
        self.on: dict[str, Any] = {}
        self.metadata: list[dict[str, str]] = []
        self.calls: list[str] = []
        self.address = ""
        self._server: grpc.Server | None = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        name = handler_call_details.method.rsplit("/", 1)[-1]
        self.metadata.append({key: str(value) for key, value in handler_call_details.invocation_metadata})
        self.calls.append(name)
        handler = self.on.get(name)
        if handler is None:
            return None
        if name in ("Watch", "LeaseKeepAlive"):
            return grpc.stream_stream_rpc_method_handler(handler)
        if name == "Snapshot":
            return grpc.unary_stream_rpc_method_handler(handler)
        return grpc.unary_unary_rpc_method_handler(handler)

    def start(self, address: str = "127.0.0.1:0") -> str:
        # Each server by itself at its port, so that a stopped one is not answered for by another.
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self,))
        port = self._server.add_insecure_port(address)
        assert port, "the port is taken"
        self._server.start()
        self.address = f"127.0.0.1:{port}"
        return self.address

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(None).wait()
            self._server = None


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    made.start()
    yield made
    made.stop()


Run = Callable[[Callable[[Any], Coroutine[Any, Any, Any]]], Any]


@pytest.fixture(params=["small loop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine that is given the loop."""

    def on_small_loop(main: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        loop = SmallLoop()
        return loop.run(main(loop))

    def on_asyncio(main: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        async def wrapper() -> Any:
            return await main(asyncio.get_running_loop())

        return asyncio.run(wrapper())

    return on_small_loop if request.param == "small loop" else on_asyncio


def found(*values: bytes) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    response = rpc.RangeResponse(count=len(values))
    for value in values:
        response.kvs.add(key=b"k", value=value)
    return lambda _request, _context: response.SerializeToString()


def refuse(context: grpc.ServicerContext, code: grpc.StatusCode, text: str) -> bytes:
    context.abort(code, text)
    raise AssertionError("not reached")


def test_a_call_and_what_it_carries(server: Server, run: Run) -> None:
    server.on["Range"] = found(b"v")

    async def main(loop: Any) -> None:
        async with Client([server.address], loop=loop) as client:
            response = await client.kv.get("k", timeout=5.0)
        assert response.kvs[0].value == b"v"

    run(main)
    assert server.metadata[0]["client-api-version"] == "3.5"
    assert "token" not in server.metadata[0]


def test_many_calls_at_once(server: Server, run: Run) -> None:
    server.on["Range"] = lambda request, _context: rpc.RangeResponse(
        count=rpc.RangeRequest.FromString(request).limit
    ).SerializeToString()

    async def main(loop: Any) -> None:
        async with Client([server.address], loop=loop) as client:

            async def one(number: int) -> int:
                return (await client.kv.get("k", limit=number, timeout=10.0)).count

            tasks = [loop.create_task(one(number)) for number in range(100)]
            assert [await task for task in tasks] == list(range(100))

    run(main)


def test_a_large_request_and_a_large_answer(server: Server, run: Run) -> None:
    server.on["Range"] = lambda request, _context: rpc.RangeResponse(
        kvs=[{"value": rpc.RangeRequest.FromString(request).key * 3}]
    ).SerializeToString()
    big = bytes(range(256)) * 4096

    async def main(loop: Any) -> None:
        async with Client([server.address], loop=loop) as client:
            assert (await client.kv.get(big, timeout=20.0)).kvs[0].value == big * 3

    run(main)


def test_etcds_errors_have_classes_and_others_their_status(server: Server, run: Run) -> None:
    server.on["Put"] = lambda _r, context: refuse(
        context, grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: key is not provided"
    )
    server.on["DeleteRange"] = lambda _r, context: refuse(context, grpc.StatusCode.UNKNOWN, "boom \u00e9")

    async def main(loop: Any) -> None:
        async with Client([server.address], loop=loop) as client:
            with pytest.raises(EmptyKeyError):
                await client.kv.put("", timeout=5.0)
            with pytest.raises(RpcError, match="rpc error: code = Unknown desc = boom \u00e9") as raised:
                await client.kv.delete("k", timeout=5.0)
            assert raised.value.status == 2
            with pytest.raises(RpcError, match="code = Unimplemented"):
                await client.kv.compact(1, timeout=5.0)

    run(main)


def test_reads_are_tried_again_and_writes_are_not(server: Server, run: Run) -> None:
    def unavailable_at_first(request: bytes, context: grpc.ServicerContext) -> bytes:
        if server.calls.count("Range") < 4:
            refuse(context, grpc.StatusCode.UNAVAILABLE, "etcdserver: leader changed")
        return found(b"v")(request, context)

    server.on["Range"] = unavailable_at_first
    server.on["Put"] = lambda _r, context: refuse(context, grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")

    async def main(loop: Any) -> None:
        async with Client([server.address], loop=loop) as client:
            assert (await client.kv.get("k", timeout=10.0)).count == 1
            with pytest.raises(NoLeaderError):
                await client.kv.put("k", timeout=10.0)

    run(main)
    assert server.calls.count("Range") == 4
    assert server.calls.count("Put") == 1


def test_a_late_answer(server: Server, run: Run) -> None:
    left: list[float] = []
    go_on = threading.Event()

    def slow(request: bytes, context: grpc.ServicerContext) -> bytes:
        left.append(context.time_remaining())
        go_on.wait(10)
        return found()(request, context)

    server.on["Range"] = slow

    async def main(loop: Any) -> None:
        async with Client([server.address], loop=loop) as client:
            with pytest.raises(CallTimeoutError, match="context deadline exceeded"):
                await client.kv.get("k", timeout=0.3)
            server.on["Range"] = found(b"v")
            assert (await client.kv.get("k", timeout=5.0)).count == 1

    run(main)
    go_on.set()
    assert 0 < left[0] <= 0.4


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_nobody_there(run: Run) -> None:
    async def main(loop: Any) -> None:
        async with Client([closed_port()], loop=loop) as client:
            with pytest.raises(CallTimeoutError) as raised:
                await client.kv.get("k", timeout=0.2)
            assert isinstance(raised.value.__cause__, ConnectionRefusedError)

    run(main)


def test_a_server_that_comes_later_is_found(run: Run) -> None:
    server = Server()
    server.on["Range"] = found(b"v")
    address = server.start()
    server.stop()

    async def main(loop: Any) -> None:
        async with Client([address], loop=loop) as client:
            call = loop.create_task(client.kv.get("k", timeout=10.0))
            await sleep(loop, 0.2)
            server.start(address)
            assert (await call).count == 1

    try:
        run(main)
    finally:
        server.stop()


def test_endpoints_take_turns_and_a_dead_one_is_passed_over(server: Server, run: Run) -> None:
    other = Server()
    other.start()
    server.on["Range"] = found(b"a")
    other.on["Range"] = found(b"b")

    async def main(loop: Any) -> None:
        async with Client([server.address, closed_port(), other.address], loop=loop) as client:
            await client.kv.get("k", timeout=5.0)
            await sleep(loop, 0.2)
            values = [(await client.kv.get("k", timeout=5.0)).kvs[0].value for _ in range(6)]
            assert sorted(values) == [b"a"] * 3 + [b"b"] * 3
            other.stop()
            await sleep(loop, 0.2)
            values = [(await client.kv.get("k", timeout=5.0)).kvs[0].value for _ in range(3)]
            assert values == [b"a"] * 3

    try:
        run(main)
    finally:
        other.stop()


def test_a_read_survives_its_server(server: Server, run: Run) -> None:
    """The connection breaks under a repeatable call: it goes to another endpoint."""
    other = Server()
    other.start()
    reached = threading.Event()

    def stuck(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        reached.set()
        time.sleep(2)
        return b""

    server.on["Range"] = stuck
    other.on["Range"] = stuck

    async def main(loop: Any) -> None:
        async with Client([server.address, other.address], loop=loop) as client:
            call = loop.create_task(client.kv.get("k", timeout=10.0))
            while not reached.is_set():
                await sleep(loop, 0.01)
            stuck_one, free_one = (server, other) if server.calls else (other, server)
            free_one.on["Range"] = found(b"v")
            stuck_one.stop()
            assert (await call).count == 1

    try:
        run(main)
    finally:
        other.stop()


def authenticate_as(tokens: list[str]) -> Handler:
    def authenticate(request: bytes, context: grpc.ServicerContext) -> bytes:
        asked = rpc.AuthenticateRequest.FromString(request)
        if (asked.name, asked.password) != ("root", "secret"):
            text = "etcdserver: authentication failed, invalid user ID or password"
            return refuse(context, grpc.StatusCode.INVALID_ARGUMENT, text)
        tokens.append(f"token{len(tokens) + 1}")
        return rpc.AuthenticateResponse(token=tokens[-1]).SerializeToString()

    return authenticate


def test_a_refused_token_is_renewed_once(server: Server, run: Run) -> None:
    tokens: list[str] = []
    server.on["Authenticate"] = authenticate_as(tokens)

    def only_second(request: bytes, context: grpc.ServicerContext) -> bytes:
        if dict(context.invocation_metadata()).get("token") != "token2":
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token")
        return b""

    server.on["Put"] = only_second

    async def main(loop: Any) -> None:
        async with Client([server.address], user="root", password="secret", loop=loop) as client:
            await client.kv.put("k", timeout=5.0)

    run(main)
    assert server.calls == ["Authenticate", "Put", "Authenticate", "Put"]


def test_a_wrong_password(server: Server, run: Run) -> None:
    server.on["Authenticate"] = authenticate_as([])

    async def main(loop: Any) -> None:
        client = Client([server.address], user="root", password="wrong", loop=loop)
        with pytest.raises(AuthFailedError):
            await client.connect()
        await client.close()

    run(main)


def test_a_user_where_none_is_needed(server: Server, run: Run) -> None:
    server.on["Authenticate"] = lambda _r, context: refuse(
        context, grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: authentication is not enabled"
    )
    server.on["Range"] = found(b"v")

    async def main(loop: Any) -> None:
        async with Client([server.address], user="root", password="secret", loop=loop) as client:
            assert (await client.kv.get("k", timeout=5.0)).count == 1

    run(main)
    assert "token" not in server.metadata[-1]


def test_a_stream_of_the_server(server: Server, run: Run) -> None:
    blobs = [bytes([number]) * 50_000 for number in range(200)]
    server.on["Snapshot"] = lambda _r, _c: (rpc.SnapshotResponse(blob=blob).SerializeToString() for blob in blobs)

    async def main(loop: Any) -> None:
        async with Client([server.address], loop=loop) as client:
            seen = [response.blob async for response in client.maintenance.snapshot(timeout=20.0)]
        assert seen == blobs

    run(main)


def test_a_slow_reader_holds_the_server_back(server: Server, run: Run) -> None:
    """Not all of it is let in while nobody reads."""
    sent: list[int] = []

    def endless(_request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        for number in range(1000):
            sent.append(number)
            yield rpc.SnapshotResponse(blob=bytes(100_000), remaining_bytes=number).SerializeToString()

    server.on["Snapshot"] = endless

    async def main(loop: Any) -> None:
        async with Client([server.address], loop=loop) as client:
            stream = await client.channel.stream("/etcdserverpb.Maintenance/Snapshot")
            assert stream._stream is not None
            stream._stream.send(b"", last=True)
            assert (await stream.receive(SnapshotResponse)) is not None
            await sleep(loop, 1.0)
            assert len(sent) < 900
            count = 1
            while await stream.read() is not None:
                count += 1
            assert count == 1000

    run(main)


def test_a_stream_that_fails(server: Server, run: Run) -> None:
    def fail(_request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield rpc.SnapshotResponse(blob=b"x").SerializeToString()
        refuse(context, grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied")

    server.on["Snapshot"] = fail

    async def main(loop: Any) -> None:
        async with Client([server.address], loop=loop) as client:
            seen = []
            with pytest.raises(PermissionDeniedError):
                async for response in client.maintenance.snapshot(timeout=5.0):
                    seen.append(response.blob)
            assert seen == [b"x"]

    run(main)


def test_closing_fails_what_is_under_way(server: Server, run: Run) -> None:
    go_on = threading.Event()
    server.on["Range"] = lambda _r, _c: (go_on.wait(5), b"")[1]

    async def main(loop: Any) -> None:
        client = Client([server.address], loop=loop)
        call = loop.create_task(client.kv.get("k"))
        await sleep(loop, 0.2)
        await client.close()
        with pytest.raises(ClientClosedError):
            await call
        with pytest.raises(ClientClosedError):
            await client.kv.get("k")

    run(main)
    go_on.set()


def test_new_endpoints_are_used_at_once(server: Server, run: Run) -> None:
    server.on["Range"] = found(b"v")

    async def main(loop: Any) -> None:
        async with Client([closed_port()], loop=loop) as client:
            call = loop.create_task(client.kv.get("k", timeout=5.0))
            await sleep(loop, 0.1)
            client.channel.set_endpoints([server.address])
            assert (await call).count == 1
            assert client.endpoints == [server.address]

    run(main)


def test_a_server_that_speaks_something_else(run: Run) -> None:
    """It is given up, and the caller's time is kept."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer_nonsense() -> None:
        while True:
            try:
                other, _address = listener.accept()
            except OSError:
                return
            other.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            other.close()

    threading.Thread(target=answer_nonsense, daemon=True).start()
    host, port = listener.getsockname()

    async def main(loop: Any) -> None:
        async with Client([f"http://{host}:{port}"], loop=loop) as client:
            with pytest.raises(CallTimeoutError):
                await client.kv.get("k", timeout=0.3)

    run(main)
    listener.close()
