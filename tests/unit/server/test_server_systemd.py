"""Source: sd_notify(3)."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest

from balsad.server.systemd import notify


def receiver(address: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bound.bind(address)
    bound.settimeout(5)
    return bound


def test_a_socket_file(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with receiver(path) as daemon:
        assert notify("READY=1", {"NOTIFY_SOCKET": path})
        assert daemon.recv(100) == b"READY=1"


def test_an_abstract_socket() -> None:
    name = f"balsad-test-{os.getpid()}"
    with receiver(f"\0{name}") as daemon:
        assert notify(environ={"NOTIFY_SOCKET": f"@{name}"})
        assert daemon.recv(100) == b"READY=1"


def test_without_systemd_nothing_is_sent() -> None:
    assert not notify("READY=1", {})


def test_a_daemon_that_is_gone_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "balsad"):
        assert not notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "nobody")})

    assert [record.getMessage() for record in caplog.records] == [
        "notifying init daemon",
        "failed to notify systemd for readiness",
    ]
