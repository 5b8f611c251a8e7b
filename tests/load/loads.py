"""Requests over loopback: an exact number of them (h2load), or as many as go within a time (wrk)."""

import re
from dataclasses import dataclass
from pathlib import Path

from processes import run


@dataclass(frozen=True)
class Load:
    """Requests of one kind, one at a time on each of a few keep-alive connections."""

    url: str
    connections: int = 16
    http2: bool = False
    # A body to send, with POST.
    body: Path | None = None

    def command(self, requests: int) -> list[str]:
        """What sends exactly so many; what it prints is for `check`."""
        command = ["h2load", f"-n{requests}", f"-c{min(self.connections, requests)}", "-t1"]
        command += [] if self.http2 else ["--h1"]
        command += ["-d", str(self.body)] if self.body else []
        return [*command, self.url]

    def send(self, requests: int) -> None:
        check(run(self.command(requests), seconds=300), requests)


def check(printed: str, requests: int) -> None:
    """Each request must have been answered with 200."""
    if f" {requests} succeeded," not in printed or f"status codes: {requests} 2xx," not in printed:
        raise RuntimeError(f"not every one of {requests} requests succeeded:\n{printed}")


@dataclass(frozen=True)
class Latencies:
    """What wrk says of one run."""

    requests: int
    p50_ms: float
    p99_ms: float


def saturate(url: str, seconds: int, connections: int = 64) -> Latencies:
    """As many requests as go within a time; each must be answered with 200."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency", url]
    return parse_wrk(run(command, seconds=seconds + 30))


def parse_wrk(printed: str) -> Latencies:
    if "Non-2xx" in printed or "Socket errors" in printed:
        raise RuntimeError(f"not every request succeeded:\n{printed}")
    requests = re.search(r"(\d+) requests in", printed)
    return Latencies(int(requests[1]), _milliseconds(printed, "50%"), _milliseconds(printed, "99%"))


def _milliseconds(printed: str, part: str) -> float:
    number, unit = re.search(rf"^\s+{part}\s+([\d.]+)(us|ms|s)$", printed, re.MULTILINE).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
