"""grpcio's client against a toy service: what any gRPC client does every day."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import uvloop

from balsad.errors import Code, KeyNotFoundError, RequestError
from balsad.transport import Call, Headers, HttpRequest, HttpResponder, RpcServer


class Echo:
    """Sends back every message; `n<count>` asks for a server stream."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def on_message(self, message: bytes) -> None:
        if message == b"fail":
            raise RequestError("no more")
        if message.startswith(b"n"):
            for index in range(int(message[1:])):
                self.call.send(b"%d" % index)
            self.call.finish()
            return
        self.call.send(message)

    def on_half_close(self) -> None:
        self.call.finish()

    def on_cancel(self) -> None:
        CANCELLED.append(self.call.headers.path)


CANCELLED: list[str] = []


def make_toy() -> RpcServer:
    server = RpcServer()

    def fast_echo(headers: Headers, message: bytes) -> bytes | None:
        if message == b"missing":
            raise KeyNotFoundError
        if message == b"slow":
            return None
        return message

    def slow_echo(call: Call, message: bytes) -> None:
        assert server.scheduler is not None
        server.scheduler.call_soon(lambda: call.respond(b"later " + message))

    def never(call: Call, message: bytes) -> None:
        call.on_cancel = lambda: CANCELLED.append(call.headers.path)

    def metadata(call: Call, message: bytes) -> None:
        wanted = message.split(b",")
        call.respond(b"|".join([call.headers.metadata.get(name, b"<none>") for name in wanted]))

    def deadline(call: Call, message: bytes) -> None:
        call.respond(repr(call.deadline).encode())

    def fail(call: Call, message: bytes) -> None:
        call.fail(Code.FAILED_PRECONDITION, message.decode())

    def make(call: Call, message: bytes) -> None:
        call.respond(b"x" * int(message))

    server.unary("/toy.Toy/Echo", slow_echo, fast_echo)
    server.unary("/toy.Toy/Slow", slow_echo)
    server.unary("/toy.Toy/Never", never)
    server.unary("/toy.Toy/Metadata", metadata)
    server.unary("/toy.Toy/Deadline", deadline)
    server.unary("/toy.Toy/Fail", fail)
    server.unary("/toy.Toy/Make", make)
    server.stream("/toy.Toy/Chat", Echo)

    def http(request: HttpRequest, responder: HttpResponder) -> None:
        responder.respond(200, {"Content-Type": "text/plain"}, f"{request.method} {request.path}".encode())

    server.http = http
    return server


class Running:
    """A server in a thread with its own loop."""

    def __init__(self, use_uvloop: bool) -> None:
        self.server = make_toy()
        self.loop = uvloop.new_event_loop() if use_uvloop else asyncio.new_event_loop()
        self.listener = self.loop.run_until_complete(self.server.listen("127.0.0.1", 0))
        self.port = self.listener.port
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        async def end() -> None:
            self.listener.close()
            await self.server.drain(0)

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    running = Running(request.param == "uvloop")
    yield running
    running.stop()


@pytest.fixture
def channel(running: Running) -> Iterator[grpc.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    options.append(("grpc.use_local_subchannel_pool", 1))
    with grpc.insecure_channel(f"127.0.0.1:{running.port}", options=options) as channel:
        yield channel


def unary(channel: grpc.Channel, name: str) -> grpc.UnaryUnaryMultiCallable:
    return channel.unary_unary(f"/toy.Toy/{name}")


def wait_for(condition: object) -> None:
    for _ in range(500):
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


def test_fast_and_deferred_answers(channel: grpc.Channel) -> None:
    echo = unary(channel, "Echo")
    for index in range(20):
        assert echo(b"%d" % index) == b"%d" % index
        assert echo(b"slow") == b"later slow"
    assert echo(b"") == b""


def test_an_error_has_code_and_words(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, "Echo")(b"missing")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "etcdserver: key not found"


@pytest.mark.parametrize("text", ["plain", "100% of ä, 漢字\n\t and ~", "", "x" * 3000])
def test_error_words_survive_percent_encoding(channel: grpc.Channel, text: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, "Fail")(text.encode())
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details() == text


@pytest.mark.parametrize("size", [0, 1, 16379, 16380, 65536, 1 << 20])
def test_values_of_all_sizes_go_both_ways(channel: grpc.Channel, size: int) -> None:
    value = b"v" * size
    assert unary(channel, "Echo")(value) == value
    assert unary(channel, "Slow")(value) == b"later " + value


def test_an_answer_larger_than_any_window(channel: grpc.Channel) -> None:
    assert len(unary(channel, "Make")(b"50000000")) == 50_000_000


def test_forty_large_answers_at_once(channel: grpc.Channel) -> None:
    make = unary(channel, "Make")
    futures = [make.future(b"1048576") for _ in range(40)]
    assert [len(future.result(20)) for future in futures] == [1 << 20] * 40


def test_a_message_over_the_limit_is_refused(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, "Echo")(b"x" * 2097153)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "grpc: received message larger than max (2097153 vs. 2097152)"
    assert unary(channel, "Echo")(b"still here") == b"still here"


def test_metadata_arrives(channel: grpc.Channel) -> None:
    call = unary(channel, "Metadata")
    answer = call(b"token,trace-bin,absent", metadata=(("token", "s3cret"), ("trace-bin", b"\x00\xff\x01")))
    assert answer == b"s3cret|\x00\xff\x01|<none>"
    assert call(b"token", metadata=(("token", "other"),)) == b"other"


def test_the_deadline_is_handed_on(channel: grpc.Channel) -> None:
    left = float(unary(channel, "Deadline")(b"", timeout=30))
    assert 25 < left < 31  # grpcio rounds up
    assert unary(channel, "Deadline")(b"") == b"None"


def test_a_deadline_that_passes_cancels_the_call(channel: grpc.Channel) -> None:
    CANCELLED.clear()
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, "Never")(b"", timeout=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(lambda: CANCELLED == ["/toy.Toy/Never"])


def test_a_cancelled_call_is_told(channel: grpc.Channel) -> None:
    CANCELLED.clear()
    future = unary(channel, "Never").future(b"")
    time.sleep(0.1)
    future.cancel()
    wait_for(lambda: CANCELLED == ["/toy.Toy/Never"])


@pytest.mark.parametrize(
    ("path", "code", "text"),
    [
        ("/toy.Toy/Absent", grpc.StatusCode.UNIMPLEMENTED, "unknown method Absent for service toy.Toy"),
        ("/no.Such/Put", grpc.StatusCode.UNIMPLEMENTED, "unknown service no.Such"),
        ("/nothing", grpc.StatusCode.RESOURCE_EXHAUSTED, 'malformed method name: "/nothing"'),
    ],
)
def test_unknown_paths(channel: grpc.Channel, path: str, code: grpc.StatusCode, text: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path)(b"")
    assert (caught.value.code(), caught.value.details()) == (code, text)


def test_gzip_goes_both_ways(channel: grpc.Channel) -> None:
    """etcd 3.5.1 has gzip linked in and answers in kind."""
    value = b"x" * 100_000
    assert unary(channel, "Echo")(value, compression=grpc.Compression.Gzip) == value
    chat = channel.stream_stream("/toy.Toy/Chat")
    assert list(chat(iter([value, b"b"]), compression=grpc.Compression.Gzip)) == [value, b"b"]


def test_gzip_does_not_widen_the_limit(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, "Echo")(b"x" * 3_000_000, compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_another_compression_is_refused(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, "Echo")(b"x" * 1000, compression=grpc.Compression.Deflate)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == 'grpc: Decompressor is not installed for grpc-encoding "deflate"'


def test_bidirectional_stream(channel: grpc.Channel) -> None:
    chat = channel.stream_stream("/toy.Toy/Chat")
    sent = [b"x" * (index * 37) for index in range(200)]
    assert list(chat(iter(sent))) == sent


def test_server_stream(channel: grpc.Channel) -> None:
    assert list(channel.unary_stream("/toy.Toy/Chat")(b"n5000")) == [b"%d" % index for index in range(5000)]


def test_a_stream_that_fails_midway(channel: grpc.Channel) -> None:
    answers = channel.stream_stream("/toy.Toy/Chat")(iter([b"a", b"fail"]))
    assert next(answers) == b"a"
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNKNOWN, "no more")


def test_a_stream_past_its_deadline(channel: grpc.Channel) -> None:
    CANCELLED.clear()
    release = threading.Event()

    def messages() -> Iterator[bytes]:
        yield b"a"
        release.wait(10)

    answers = channel.stream_stream("/toy.Toy/Chat")(messages(), timeout=0.3)
    assert next(answers) == b"a"
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    release.set()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(lambda: CANCELLED == ["/toy.Toy/Chat"])


def test_many_threads_on_many_channels(running: Running) -> None:
    def work(number: int) -> int:
        with grpc.insecure_channel(
            f"127.0.0.1:{running.port}", options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            echo = unary(channel, "Echo")
            slow = unary(channel, "Slow")
            for index in range(50):
                text = b"%d/%d" % (number, index)
                assert echo(text) == text
                assert slow(text) == b"later " + text
        return number

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(8))) == list(range(8))


def test_counters_add_up(running: Running, channel: grpc.Channel) -> None:
    methods = {method.name: method for method in running.server.methods}
    echo = methods["Echo"]
    started, received, sent = echo.started, echo.received, echo.sent
    handled = dict(echo.handled)
    bytes_in, bytes_out = echo.bytes_in, echo.bytes_out
    call = unary(channel, "Echo")
    assert [call(b"abc") for _ in range(5)] == [b"abc"] * 5
    assert call(b"slow") == b"later slow"
    with pytest.raises(grpc.RpcError):
        call(b"missing")
    assert (echo.started - started, echo.received - received, echo.sent - sent) == (7, 7, 6)
    assert echo.handled[0] - handled.get(0, 0) == 6
    assert echo.handled[3] - handled.get(3, 0) == 1
    assert (echo.bytes_in - bytes_in, echo.bytes_out - bytes_out) == (15 + 4 + 7, 15 + 10)
