"""Instructions and system calls per request: from the hardware's counters where there are any, else under callgrind."""

import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from loads import Load, check
from processes import LOAD_CORE, PATIENCE, Process, pinned, run, wait_until


@dataclass(frozen=True)
class Instructions:
    """Per request. callgrind does not see the kernel's."""

    user: float
    kernel: float | None = None


def hardware_counts(folder: Path) -> bool:
    """Whether this machine counts instructions: virtual machines often do not."""
    try:
        _perf(folder, ["true"])
    except (RuntimeError, OSError):
        return False
    return True


class Hardware:
    """Counts what a process does while a load runs."""

    def __init__(self, process: Process, folder: Path) -> None:
        self._process = process
        self._folder = folder

    def count(self, load: Load, requests: int) -> Instructions:
        load.send(requests // _WARM_UP)
        user, kernel, printed = _perf(self._folder, load.command(requests), "-p", str(self._process.pid))
        check(printed, requests)
        return Instructions(user / requests, kernel / requests)


def _perf(folder: Path, command: list[str], *options: str) -> tuple[float, float, str]:
    counts = folder / "perf"
    events = ["-e", "instructions:u,instructions:k"]
    printed = run(["perf", "stat", "-x,", "-o", counts, *events, *options, "--", *command], seconds=300)
    return *parse_perf(counts.read_text()), printed


def parse_perf(counts: str) -> tuple[float, float]:
    found = {event: value for value, event in re.findall(r"^([^,#]+),[^,]*,(instructions:[uk]),", counts, re.MULTILINE)}
    try:
        return float(found["instructions:u"]), float(found["instructions:k"])
    except (KeyError, ValueError):
        raise RuntimeError(f"no instructions were counted:\n{counts}") from None


class Callgrind:
    """Counts what a process that runs under callgrind does between two dumps: each sets the count to zero."""

    def __init__(self, process: Process, folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._dumps = 0

    @staticmethod
    def wrap(command: list[str], folder: Path) -> list[str]:
        """The command that makes a process which can be counted so."""
        # Starts are not counted; Envoy's would take minutes.
        options = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/callgrind"]
        return ["valgrind", *options, *command]

    def count(self, load: Load, requests: int) -> Instructions:
        self._control("--instr=on")
        load.send(requests // _WARM_UP)
        self._dump()
        load.send(requests)
        return Instructions(parse_callgrind(self._dump().read_text()) / requests)

    def _dump(self) -> Path:
        self._control("--dump")
        self._dumps += 1
        return self._folder / f"callgrind.{self._dumps}"

    def _control(self, order: str) -> None:
        run(["callgrind_control", order, str(self._process.pid)], seconds=PATIENCE)


def parse_callgrind(dump: str) -> int:
    return int(re.search(r"^totals: (\d+)", dump, re.MULTILINE)[1])


def count_system_calls(process: Process, folder: Path, load: Load, requests: int) -> float:
    """System calls per request."""
    load.send(requests // _WARM_UP)
    counts = folder / "strace"
    strace = subprocess.Popen(pinned(LOAD_CORE, ["strace", "-qq", "-c", "-f", "-o", counts, "-p", process.pid]))
    try:
        wait_until(lambda: _is_traced(process.pid), "strace does not begin")
        load.send(requests)
        strace.send_signal(signal.SIGINT)
        strace.wait(timeout=PATIENCE)
    finally:
        strace.kill()
    return parse_strace(counts.read_text()) / requests


def _is_traced(pid: int) -> bool:
    threads = list(Path(f"/proc/{pid}/task").iterdir())
    return all("TracerPid:\t0\n" not in (thread / "status").read_text() for thread in threads)


def parse_strace(counts: str) -> int:
    """The calls of the line that adds all up; its column of errors may be empty."""
    total = next(line for line in counts.splitlines() if line.endswith(" total"))
    return int(total.split()[3])


# Of what is counted: sent before, so that connections are open and pages have been touched.
_WARM_UP = 5
