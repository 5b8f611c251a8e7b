"""What nginx cannot be: an origin whose logins take their time and are counted, and whose event streams tell the time.

`python3 slow_origin.py PORT SECONDS`: where it listens, and how long a login takes.
"""

import asyncio
import random
import secrets
import sys
import time

# Between two events of a stream.
INTERVAL = 0.5
LOGIN = "/icp4d-api/"
EVENTS = "/events"
LOGINS = "/logins"


class Origin:
    def __init__(self, login_seconds: float) -> None:
        self._login_seconds = login_seconds
        self._logins = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head.decode("latin-1"), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        await reader.readexactly(int(headers.get("content-length", 0)))
        target = head.split(" ")[1]
        if target.startswith(LOGIN):
            self._logins += 1
            await asyncio.sleep(self._login_seconds)
            token = secrets.token_hex(32)
            writer.write(_ok(f'{{"_messageCode_":"200","message":"success","token":"{token}"}}'))
        elif target.startswith(LOGINS):
            writer.write(_ok(str(self._logins)))
        elif "authorization" not in headers:
            writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        elif target.startswith(EVENTS):
            await _stream(writer)
        else:
            writer.write(_ok("{}"))
        await writer.drain()


async def _stream(writer: asyncio.StreamWriter) -> None:
    """Events without an end, each with the time at which it was written; no two streams in step."""
    # nginx holds a stream back unless it is told not to.
    headers = "Content-Type: text/event-stream\r\nX-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n"
    writer.write(f"HTTP/1.1 200 OK\r\n{headers}\r\n".encode())
    await asyncio.sleep(random.random() * INTERVAL)
    while not writer.is_closing():
        event = f"data: {time.monotonic_ns()}\n\n".encode()
        writer.write(b"%x\r\n%s\r\n" % (len(event), event))
        await asyncio.sleep(INTERVAL)


def _ok(body: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


async def _main(port: int, login_seconds: float) -> None:
    server = await asyncio.start_server(Origin(login_seconds).serve, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2])))
