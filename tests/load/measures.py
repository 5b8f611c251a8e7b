"""What is measured, one function for each group of rows."""

import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import clients
import targets
from counts import Callgrind, Hardware, count_system_calls
from loads import Latencies, Load, saturate
from origin import BIG, SMALL, Origin
from peers import Job, Program
from processes import LOAD_CORE, MEASURED_CORE, Process, busy_share, free_port, wait_until
from results import NGINX, ORIGIN, OURS, Results
from slow_origin import LOGINS


@dataclass
class Rig:
    """The proxies, the origins, and where what is measured is written down."""

    folder: Path
    programs: dict[str, Program]
    origin: Origin
    # The port of the origin that nginx cannot be.
    slow_origin: int
    counts_kernel: bool
    results: Results

    @contextmanager
    def serve(
        self, name: str, *, https: bool = False, under_callgrind: bool = False, **job: object
    ) -> Iterator["Served"]:
        """A proxy at its job, with plain HTTP to the origin unless the job says otherwise."""
        folder = self.folder / "served"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        defaults = {
            "upstream_port": self.origin.tls_port if https else self.origin.port,
            "ca": self.origin.ca if https else None,
            "admin_port": free_port(),
        }
        full = Job(folder=folder, port=free_port(), **defaults | job)
        command = self.programs[name](full)
        if under_callgrind:
            command = Callgrind.wrap(command, folder)
        with Process(command, MEASURED_CORE, full.port, folder / "log") as process:
            yield Served(process, full)


@dataclass(frozen=True)
class Served:
    process: Process
    job: Job

    def load(self, path: str = SMALL, **kind: object) -> Load:
        return Load(f"http://127.0.0.1:{self.job.port}{path}", **kind)


def count_instructions(rig: Rig, names: list[str], https: bool, with_bodies: bool, requests: int) -> None:
    """Per request, to a plain or an HTTPS upstream; `with_bodies`: also with one in the request, and in the answer."""
    for name in names:
        with counted(rig, name, https=https) as (served, count):
            count(targets.HTTPS if https else targets.PLAIN, served.load(), requests)
            if with_bodies and https and rig.counts_kernel:
                count(targets.BIG, served.load(BIG, connections=2), _BIG_REQUESTS)
            elif with_bodies and not https:
                count(targets.POST, served.load(body=rig.origin.upload), requests // 4)


def time_big_bodies(rig: Rig, names: list[str]) -> None:
    """Processor time of 10 MB. callgrind would tell of another machine: it knows no wide vector instructions, which is
    what ciphers are made of. All in turn, the median of five rounds: it differs from one to the next."""
    seen: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(5):
        for name, times in seen.items():
            with rig.serve(name, https=True) as served:
                load = served.load(BIG, connections=2)
                load.send(_BIG_REQUESTS // 5)
                before = served.process.cpu_seconds()
                load.send(2 * _BIG_REQUESTS)
                times.append((served.process.cpu_seconds() - before) / (2 * _BIG_REQUESTS) * 1000)
    for name, times in seen.items():
        rig.results.add(targets.BIG_TIME, name, statistics.median(times))


def count_http2(rig: Rig, names: list[str], requests: int) -> None:
    for name in names:
        with counted(rig, name, http2=True) as (served, count):
            count(targets.HTTP2, served.load(http2=True), requests)


def count_query(rig: Rig, requests: int) -> None:
    """`?token=`, which HAProxy and Envoy have to be programmed for."""
    for name in [OURS, NGINX]:
        with counted(rig, name, in_query=True) as (served, count):
            count(targets.QUERY, served.load(), requests)


def count_two_workers(rig: Rig, requests: int) -> None:
    with counted(rig, OURS, workers=2) as (served, count):
        count(targets.TWO_WORKERS, served.load(), requests)


@contextmanager
def counted(rig: Rig, name: str, **job: object) -> Iterator[tuple[Served, Callable[[str, Load, int], None]]]:
    """A proxy, and what counts its instructions for a row."""
    with rig.serve(name, under_callgrind=not rig.counts_kernel, **job) as served:
        counter = (Hardware if rig.counts_kernel else Callgrind)(served.process, served.job.folder)

        def count(row: str, load: Load, requests: int) -> None:
            per_request = counter.count(load, requests)
            rig.results.add(targets.instructions(row, False), name, per_request.user / 1000)
            if per_request.kernel is None:
                return
            rig.results.add(f"{row}: kernel instructions (k)", name, per_request.kernel / 1000)
            rig.results.add(targets.instructions(row, True), name, (per_request.user + per_request.kernel) / 1000)

        yield served, count


def saturate_in_turn(rig: Rig, names: list[str], https: bool, rounds: int, seconds: int) -> None:
    """Processor time, latencies and memory under as much load as goes; the median of rounds, all proxies in each."""
    row = targets.HTTPS if https else targets.PLAIN
    seen: dict[str, list[tuple[Latencies, float, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            with rig.serve(name, https=https) as served:
                url = served.load().url
                saturate(url, seconds=1)
                before = served.process.cpu_seconds()
                latencies = saturate(url, seconds)
                cpu = (served.process.cpu_seconds() - before) / latencies.requests
                seen[name].append((latencies, cpu, served.process.rss_kb()))
    for name, runs in seen.items():
        for what, figure in {
            "processor time (µs)": [cpu * 1e6 for _, cpu, _ in runs],
            "64 connections, p50 (ms)": [latencies.p50_ms for latencies, _, _ in runs],
            "64 connections, p99 (ms)": [latencies.p99_ms for latencies, _, _ in runs],
            "resident under load (MB)": [rss / 1024 for _, _, rss in runs],
        }.items():
            rig.results.add(f"{row}: {what}", name, statistics.median(figure))


def trace_system_calls(rig: Rig, names: list[str], https: bool, requests: int) -> None:
    for name in names:
        with rig.serve(name, https=https) as served:
            calls = count_system_calls(served.process, served.job.folder, served.load(), requests)
            rig.results.add(f"{targets.HTTPS if https else targets.PLAIN}: system calls", name, calls)


def start_again_and_again(rig: Rig, names: list[str], rounds: int) -> None:
    _look_for_others(rig, targets.START)
    for name in names:
        starts, resident = [], []
        for _ in range(rounds):
            with rig.serve(name) as served:
                starts.append(served.process.seconds_to_listen * 1000)
                time.sleep(_SETTLED_AFTER_START)
                resident.append(served.process.rss_kb() / 1024)
        rig.results.add(targets.START, name, statistics.median(starts))
        rig.results.add(targets.RSS_AT_START, name, statistics.median(resident))


def keep_idle(rig: Rig, names: list[str], number: int, tls: bool = False) -> None:
    """Growth of resident memory by a connection that is open and has nothing to do."""
    for name in names:
        with rig.serve(name, tls=tls) as served:
            port = served.job.port
            # What only the first ones cost is not theirs.
            with clients.idle_connections(port, 16, SMALL, tls):
                before = served.process.rss_kb()
            with clients.idle_connections(port, number, SMALL, tls):
                time.sleep(_SETTLED_WHEN_IDLE)
                grown = served.process.rss_kb() - before
        rig.results.add(targets.IDLE_TLS if tls else targets.IDLE, name, max(grown, 0) / number)


def spread_connections(rig: Rig) -> None:
    """Two workers: how many connections each one got."""
    with rig.serve(OURS, workers=2) as served:
        for number in [1, 4, 64]:
            with clients.idle_connections(served.job.port, number, SMALL):
                workers = clients.connections_by_worker(served.process.pid, served.job.port)
                row = f"two workers: connections of each, of {number}"
                rig.results.add(row, OURS, " + ".join(map(str, workers)))


def stream_events(rig: Rig, names: list[str], rounds: int, seconds: float) -> None:
    """What is added to the delay that the origin and the client have between themselves. Other programs on this
    machine can only lengthen it: of several rounds the shortest counts."""
    _look_for_others(rig, targets.EVENTS_P99)
    seen: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        seen.setdefault(ORIGIN, []).append(_quantiles(rig.slow_origin, seconds))
        for name in names:
            with rig.serve(name, upstream_port=rig.slow_origin) as served:
                seen.setdefault(name, []).append(_quantiles(served.job.port, seconds))
    least = {name: [min(part) for part in zip(*runs, strict=True)] for name, runs in seen.items()}
    for name in names:
        for index, row in enumerate([targets.EVENTS_P50, targets.EVENTS_P99]):
            rig.results.add(row, name, max(least[name][index] - least[ORIGIN][index], 0))
            rig.results.add(row, ORIGIN, least[ORIGIN][index])


def _quantiles(port: int, seconds: float) -> tuple[float, float]:
    delays = clients.event_delays(port, _STREAMS, seconds)
    percentiles = statistics.quantiles(delays, n=100)
    return percentiles[49], percentiles[98]


def ask_first(rig: Rig) -> None:
    """Many first requests at once, while the login takes its time: how many logins it came to."""
    port = free_port()
    with (
        start_slow_origin(rig.folder, port, login_seconds=2),
        rig.serve(OURS, upstream_port=port, login_lifetime=_LONG) as served,
    ):
        clients.ask_at_once(served.job.port, 1000, SMALL)
        rig.results.add(targets.FIRST_LOGINS, OURS, float(clients.ask_once(port, LOGINS)))


def renew_under_load(rig: Rig, rounds: int, seconds: int) -> None:
    """A credential that is renewed every few seconds, by a login that takes its time, against one that is not."""
    p99: dict[str, list[float]] = {_LONG: [], _SHORT: []}
    renewals = held_up = 0
    for _ in range(rounds):
        for lifetime, seen in p99.items():
            with rig.serve(OURS, login_lifetime=lifetime) as served:
                wait_until(lambda: _is_ready(served.job.admin_port), "the first login did not succeed")
                seen.append(saturate(served.load().url, seconds).p99_ms)
                metrics = clients.ask_once(served.job.admin_port, "/metrics")
            if lifetime == _SHORT:
                renewals += _metric(metrics, 'credential_exchanges_total{credential="load",outcome="ok"}') - 1
                held_up += _metric(metrics, 'overhead_seconds_count{route="load"}')
                held_up -= _metric(metrics, 'overhead_seconds_bucket{le="0.1",route="load"}')
    if not renewals:
        raise RuntimeError("no renewal fell into the load")
    rig.results.add(targets.RENEWAL_DELAYED, OURS, float(held_up))
    rig.results.add(f"{targets.RENEWALS}: how many, failed requests", OURS, f"{renewals:.0f}, none")
    rig.results.add(f"{targets.RENEWALS}: p99 with them (ms)", OURS, statistics.median(p99[_SHORT]))
    rig.results.add(f"{targets.RENEWALS}: p99 without (ms)", OURS, statistics.median(p99[_LONG]))


def start_slow_origin(folder: Path, port: int, login_seconds: float) -> Process:
    script = Path(__file__).parent / "slow_origin.py"
    command = [sys.executable, script, str(port), str(login_seconds)]
    return Process(command, LOAD_CORE, port, folder / "slow-origin.log")


def _look_for_others(rig: Rig, row: str) -> None:
    if (busy := busy_share()) > _HARDLY_BUSY:
        rig.results.disturbed.add(row)
        rig.results.remarks.append(f"Before “{row}” other programs used {busy:.0%} of this machine.")


def _is_ready(admin_port: int) -> bool:
    try:
        clients.ask_once(admin_port, "/readyz?require=all")
    except (RuntimeError, OSError):
        return False
    return True


def _metric(text: str, series: str) -> float:
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(_PREFIX + series + " "))


_PREFIX = "watsonx_auth_proxy_"
_HARDLY_BUSY = 0.1
_BIG_REQUESTS = 50
_STREAMS = 500
# Lifetimes of a token. The short one leaves time for a slow login after it has been renewed at four fifths.
_SHORT = "5s"
_LONG = "1h"
_SETTLED_AFTER_START = 1.0
_SETTLED_WHEN_IDLE = 6.0
