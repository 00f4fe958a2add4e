"""Clients that read and write a few keys all the time, and the history of what they were told."""

from __future__ import annotations

import random
import threading
import time

import grpc

from balsad.sim.history import DONE, REFUSED, History, Operation
from balsad.sim.requests import (
    MOD,
    PATHS,
    Compare,
    Delete,
    KeyValue,
    Put,
    Range,
    RangeResult,
    Request,
    Txn,
    TxnResult,
    decode,
    encode,
    prefix_end,
)

KEYS = tuple(b"k/%d" % number for number in range(6))
PAIR = (b"p/left", b"p/right")
TIMEOUT_S = 3.0
THINK_S = 0.008

# With these codes a member says for certain that it did nothing.
CERTAIN = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.OUT_OF_RANGE,
)

NUMBERING = threading.Lock()

OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    # A member that comes back is found at once.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 500),
]


class Asker:
    """One client of one member, that writes down what it asks and hears."""

    def __init__(self, history: History, name: str, machine: str, address: str) -> None:
        self.name = name
        self.machine = machine
        self.history = history
        self._channel = grpc.insecure_channel(address, options=OPTIONS)
        self._calls = {kind: self._channel.unary_unary(path) for kind, path in PATHS.items()}

    def ask(self, request: Request, timeout_s: float = TIMEOUT_S) -> Operation:
        operations = self.history.operations
        with NUMBERING:
            operation = Operation(len(operations), self.name, self.machine, request, time.monotonic())
            operations.append(operation)
        try:
            raw = self._calls[type(request)](encode(request), timeout=timeout_s)
        except grpc.RpcError as error:
            operation.error = f"{error.code().name}: {error.details()}"
            if error.code() in CERTAIN:
                operation.returned = time.monotonic()
                operation.outcome = REFUSED
            return operation
        operation.returned = time.monotonic()
        operation.outcome = DONE
        operation.revision, operation.result = decode(request, raw)
        return operation

    def close(self) -> None:
        self._channel.close()


class Client(Asker):
    """Puts, reads, compares and swaps, deletes, until told to stop."""

    def __init__(self, history: History, name: str, machine: str, address: str, value_bytes: int) -> None:
        super().__init__(history, name, machine, address)
        self._random = random.Random(name)
        self._known: dict[bytes, int] = {}
        self._count = 0
        self._filling = b"." * value_bytes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failure: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        self._thread.join(TIMEOUT_S + 20)
        assert not self._thread.is_alive(), f"{self.name} hangs"
        self.close()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._random.expovariate(1.0 / THINK_S)):
                operation = self.ask(self._request())
                if operation.outcome == DONE:
                    self._learn(operation)
                else:
                    self._stop.wait(0.1)
        except BaseException as error:
            self.failure = error

    def _value(self) -> bytes:
        """Never the same twice."""
        self._count += 1
        return b"%s:%d" % (self.name.encode(), self._count) + self._filling

    def _request(self) -> Request:
        key = self._random.choice(KEYS)
        dice = self._random.random()
        if dice < 0.35:
            return Put(key, self._value())
        if dice < 0.55:
            return Range(key)
        if dice < 0.60:
            return Range(b"k/", prefix_end(b"k/"))
        if dice < 0.65:
            return Range(key, serializable=True)
        if dice < 0.85:
            compare = Compare(key, MOD, self._known.get(key, 0))
            return Txn((compare,), (Put(key, self._value()),), (Range(key),))
        if dice < 0.92:
            value = self._value()
            return Txn((), (Put(PAIR[0], value), Put(PAIR[1], value)))
        if dice < 0.95:
            return Txn((), (Range(PAIR[0]), Range(PAIR[1])))
        return Delete(key)

    def _learn(self, operation: Operation) -> None:
        request, result = operation.request, operation.result
        kvs: tuple[KeyValue, ...] = ()
        if isinstance(request, Put):
            self._known[request.key] = operation.revision
        elif isinstance(request, Delete):
            self._known.pop(request.key, None)
        elif isinstance(result, RangeResult):
            kvs = result.kvs
        elif isinstance(result, TxnResult) and isinstance(request, Txn) and request.compares:
            key = request.compares[0].key
            self._known.pop(key, None)
            if result.succeeded:
                self._known[key] = operation.revision
            elif isinstance(result.results[0], RangeResult):
                kvs = result.results[0].kvs
        for kv in kvs:
            self._known[kv.key] = kv.mod


class Load:
    """Several clients for each member."""

    def __init__(
        self, addresses: dict[str, str], history: History, *, clients_each: int = 2, value_bytes: int = 0
    ) -> None:
        self.history = history
        self.clients = [
            Client(history, f"{machine}-{number}-{len(history.operations)}", machine, address, value_bytes)
            for machine, address in addresses.items()
            for number in range(clients_each)
        ]

    def start(self) -> None:
        for client in self.clients:
            client.start()

    def stop(self) -> None:
        for client in self.clients:
            client.stop()
        for client in self.clients:
            client.join()
