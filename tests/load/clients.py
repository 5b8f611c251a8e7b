"""Clients that no load generator is: thousands that are idle, streams whose events are timed, first requests at once."""

import asyncio
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import PATIENCE
from slow_origin import EVENTS

_EVENT = re.compile(rb"data: (\d+)\n\n")


def ask(connection: socket.socket, path: str) -> str:
    """One request on a keep-alive connection; the body of its answer, which must be 200."""
    connection.sendall(_request(path))
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _more(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(_OK):
        raise RuntimeError(f"not answered with 200: {head!r}")
    length = int(re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)[1])
    while len(body) < length:
        body += _more(connection)
    return body.decode()


def ask_once(port: int, path: str) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        return ask(connection, path)


@contextmanager
def idle_connections(port: int, number: int, path: str, tls: bool = False) -> Iterator[None]:
    """Opened one after another, each answered once, and kept open within."""
    connections = []
    try:
        for _ in range(number):
            connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            connections.append(_UNCHECKED.wrap_socket(connection) if tls else connection)
            ask(connections[-1], path)
        yield
    finally:
        for connection in connections:
            connection.close()


def connections_by_worker(pid: int, port: int) -> list[int]:
    """How many client connections each worker of a process waits for, the most first."""
    established = _established(port)
    # A worker has several handles of one epoll, and each tells the same.
    workers = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if os.readlink(entry) == "anon_inode:[eventpoll]":
            watched = re.findall(r"^tfd: *(\d+)", Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text(), re.MULTILINE)
            sockets = {os.readlink(f"/proc/{pid}/fd/{number}") for number in watched}
            workers.add(frozenset(sockets & established))
    return sorted(map(len, workers - {frozenset()}), reverse=True)


def _established(port: int) -> set[str]:
    """The server's ends of the connections to a port of this machine, as /proc names them."""
    ends = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return {f"socket:[{end[9]}]" for end in ends if end[3] == "01" and int(end[1].partition(":")[2], 16) == port}


def event_delays(port: int, streams: int, seconds: float) -> list[float]:
    """Milliseconds from when each event was written to when it was read, over a time and that many streams."""
    return asyncio.run(_event_delays(port, streams, seconds))


async def _event_delays(port: int, streams: int, seconds: float) -> list[float]:
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(streams)]
    delays: list[float] = []
    begun = time.monotonic() + _SETTLING
    async with asyncio.timeout(_SETTLING + seconds + PATIENCE):
        reading = [_read_events(*connection, begun, begun + seconds, delays) for connection in connections]
        await asyncio.gather(*reading)
    return delays


async def _read_events(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begun: float, end: float, delays: list[float]
) -> None:
    # Without a proxy there is nobody else to bring a credential; with one, it is replaced.
    writer.write(_request(EVENTS, "Authorization: Bearer none\r\n"))
    line = await reader.readline()
    if not line.startswith(_OK):
        raise RuntimeError(f"not answered with 200: {line!r}")
    while time.monotonic() < end:
        piece = await reader.read(4096)
        now = time.monotonic_ns()
        if not piece:
            raise RuntimeError("a stream ended")
        if now / 1e9 > begun:
            delays += [(now - int(written)) / 1e6 for written in _EVENT.findall(piece)]
    writer.close()


def ask_at_once(port: int, number: int, path: str) -> None:
    """That many connections, opened before the first request is sent; each request must be answered with 200."""
    asyncio.run(_ask_at_once(port, number, path))


async def _ask_at_once(port: int, number: int, path: str) -> None:
    async with asyncio.timeout(PATIENCE):
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(number)]
        for _, writer in connections:
            writer.write(_request(path))
        for reader, writer in connections:
            line = await reader.readline()
            if not line.startswith(_OK):
                raise RuntimeError(f"not answered with 200: {line!r}")
            writer.close()


def _more(connection: socket.socket) -> bytes:
    piece = connection.recv(65536)
    if not piece:
        raise RuntimeError("the connection was closed instead of an answer")
    return piece


def _request(path: str, header: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode()


_OK = b"HTTP/1.1 200 "
# Before delays count: connections to the origin are opened, pages are touched.
_SETTLING = 2.0
# What is measured is memory, on this machine.
_UNCHECKED = ssl.create_default_context()
_UNCHECKED.check_hostname = False
_UNCHECKED.verify_mode = ssl.CERT_NONE
