"""The process that waits for a slow disk, so that the event loop need not.

Run as `python -I -S sync_helper.py FD`: stdlib only, no import of the house.
FD is one end of a SOCK_SEQPACKET pair. Requests, each but the first answered by one packet:

    T + fd                        this is the log's last segment from now on
    S                             fdatasync it
    C + new fd, folder fd,        move to the next segment: fdatasync the old one and the new one,
        old name \\0 new name      rename, fsync the folder
    E                             nothing: an answer only

The answer is `<Bid`: the step that failed (0: none), its errno, the seconds
that the first fdatasync took. The descriptors are the server's own, locks
included: while this process still writes, no other server can open the log.
It ends when the server does, as the pair's other end closes then.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import time


def serve(connection: socket.socket) -> None:
    """Answer requests until the other end is gone."""
    tail = -1
    answer = struct.Struct("<Bid")
    while True:
        packet, fds, _flags, _address = socket.recv_fds(connection, 65536, 2)
        if not packet:
            return
        kind = packet[:1]
        step = 0
        failure = 0
        seconds = 0.0
        try:
            if kind == b"T":
                if tail >= 0:
                    os.close(tail)
                tail = fds[0]
                continue
            if kind in (b"S", b"C"):
                step = 1
                began = time.perf_counter()
                os.fdatasync(tail)
                seconds = time.perf_counter() - began
                if kind == b"C":
                    new, folder = fds
                    old_name, new_name = packet[1:].split(b"\0")
                    step = 2
                    os.fdatasync(new)
                    step = 3
                    os.rename(old_name, new_name)
                    step = 4
                    os.fsync(folder)
                    os.close(folder)
                    os.close(tail)
                    tail = new
            step = 0
        except OSError as error:
            failure = error.errno or 5
        connection.send(answer.pack(step, failure, seconds))


def main() -> None:
    # A Ctrl-C reaches the whole process group; the server decides when this ends.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        try:
            serve(connection)
        except (BrokenPipeError, ConnectionResetError):
            pass


if __name__ == "__main__":
    main()
