"""Processes of a run: each on its core, looked at through /proc, and ended with the run whatever happens to it."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

# What is measured has one core for itself; load and origin share the other.
MEASURED_CORE = 0
LOAD_CORE = 1
# For what takes a moment; long, since nothing is said about how busy the machine is.
PATIENCE = 180
_TICKS = os.sysconf("SC_CLK_TCK")


def pinned(core: int, command: list[str]) -> list[str]:
    """The command on one core; the kernel ends it if the rig dies without ending it."""
    return ["setpriv", "--pdeathsig", "KILL", "taskset", "--cpu-list", str(core), *map(str, command)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(is_so: Callable[[], bool], complaint: str, pause: float = 0.01, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(complaint)
        time.sleep(pause)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run(command: list[str], seconds: float, core: int = LOAD_CORE) -> str:
    """What a program prints that ends by itself, within a time."""
    done = subprocess.run(pinned(core, command), capture_output=True, text=True, timeout=seconds)
    if done.returncode != 0:
        raise RuntimeError(f"exit code {done.returncode}: {command}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def busy_share(seconds: float = 1.0) -> float:
    """How much of this machine is used, by whomever, over a time."""

    def ticks() -> tuple[int, int]:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        # Idle, and idle for waiting.
        return fields[3] + fields[4], sum(fields)

    idle_before, all_before = ticks()
    time.sleep(seconds)
    idle, everything = ticks()
    return 1 - (idle - idle_before) / (everything - all_before)


class Process:
    """A server on its core, from the moment that it listens."""

    def __init__(self, command: list[str], core: int, port: int, log: Path) -> None:
        self.port = port
        self._log = log
        with log.open("w") as output:
            begun = time.monotonic()
            self._process = subprocess.Popen(
                pinned(core, command), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            wait_until(self._listens, f"does not listen: {command[0]}", pause=0.0002)
        except Exception:
            self.stop()
            raise
        self.seconds_to_listen = time.monotonic() - begun

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        # setpriv and taskset become the program: they leave no process of their own.
        return self._process.pid

    def rss_kb(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

    def cpu_seconds(self) -> float:
        """User and system time so far, of all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=PATIENCE)

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            end = "\n".join(self._log.read_text().splitlines()[-20:])
            raise RuntimeError(f"ended with exit code {self._process.returncode}; the end of its log:\n{end}")
        return is_listening(self.port)
