"""Gives every proxy the same job, prints one table, and ends with 1 if a target is missed.

Started by `tests/load/run`, which installs what it needs and names the binaries in the environment.
"""

import argparse
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import measures
import peers
from counts import hardware_counts
from measures import Rig
from origin import start_origin
from processes import LOAD_CORE, free_port
from results import ENVOY, HAPROXY, NGINX, OURS, PEERS, Results
from targets import judge


def main() -> int:
    options = _options()
    # Everything here but what is measured: Python, the load, the origin.
    os.sched_setaffinity(0, {LOAD_CORE})
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    # An end from outside is an end like any other: what was begun is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as folder, _rig(Path(folder)) as rig:
        try:
            if options.guard:
                _guard(rig)
            else:
                _measure(rig, options.quick)
        finally:
            # Also what was measured before something went wrong.
            print("\n".join(["", *rig.results.lines(), "", *rig.results.remarks]), flush=True)
        verdicts = list(judge(rig.results, rig.counts_kernel, may_be_held=options.no_worse or options.guard))
    print("\n".join(line for _, line in verdicts))
    passed, failed, skipped = ([good for good, _ in verdicts].count(kind) for kind in [True, False, None])
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def _guard(rig: Rig) -> None:
    with _told("instructions, plain upstream"):
        measures.count_instructions(rig, [OURS, NGINX], https=False, with_bodies=False, requests=10_000)


def _measure(rig: Rig, quick: bool) -> None:
    everybody = [OURS, *PEERS]
    counted = [OURS, NGINX] if quick else everybody
    requests = 5_000
    rounds, seconds = (1, 2) if quick else (3, 4)
    for https in [False, True]:
        kind = "HTTPS" if https else "plain"
        with _told(f"instructions, {kind} upstream"):
            measures.count_instructions(rig, counted, https, with_bodies=not quick, requests=requests)
        with _told(f"system calls, {kind} upstream"):
            measures.trace_system_calls(rig, everybody, https, requests=2_000)
        with _told(f"latencies, {kind} upstream"):
            measures.saturate_in_turn(rig, everybody, https, rounds, seconds)
    with _told("instructions, ?token="):
        measures.count_query(rig, requests)
    if quick:
        left_out = "16 KB POST, 10 MB body, HTTP/2 clients; instructions of HAProxy and Envoy; event streams of peers"
        rig.results.remarks.append(f"Not measured with --quick: {left_out}.")
    else:
        with _told("10 MB bodies"):
            measures.time_big_bodies(rig, everybody)
        with _told("instructions, HTTP/2 clients"):
            measures.count_http2(rig, everybody, requests)
    with _told("two workers"):
        measures.count_two_workers(rig, requests)
        measures.spread_connections(rig)
    with _told("starts"):
        measures.start_again_and_again(rig, everybody, rounds=3 if quick else 9)
    with _told("idle connections"):
        measures.keep_idle(rig, everybody, number=4_000)
        measures.keep_idle(rig, [OURS], number=1_000, tls=True)
    with _told("event streams"):
        names = [OURS] if quick else everybody
        measures.stream_events(rig, names, rounds=2 if quick else 3, seconds=5 if quick else 10)
    with _told("first requests"):
        measures.ask_first(rig)
    with _told("renewals"):
        measures.renew_under_load(rig, rounds=1 if quick else 3, seconds=8 if quick else 10)
    rig.results.remarks.append("Not measured: a reload of the configuration, which the proxy does not have yet.")


@contextmanager
def _rig(folder: Path) -> Iterator[Rig]:
    slow_port = free_port()
    with (
        measures.start_slow_origin(folder, slow_port, login_seconds=0.3),
        start_origin(folder / "origin", login_port=slow_port) as origin,
    ):
        counts_kernel = hardware_counts(folder)
        if not counts_kernel:
            print("This machine counts no instructions in hardware: user instructions under callgrind instead,")
            print("without the kernel's.")
        programs = {
            OURS: peers.ours(Path(os.environ["PROXY"])),
            NGINX: peers.nginx,
            HAPROXY: peers.haproxy,
            ENVOY: peers.envoy(Path(os.environ["ENVOY"])),
        }
        yield Rig(folder, programs, origin, slow_port, counts_kernel, Results())


@contextmanager
def _told(step: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    print(f"-- {step}: {time.monotonic() - begun:.0f} s", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/load/run", description=__doc__.partition("\n")[0])
    for option, help_text in {
        "--quick": "what fits into a few minutes",
        "--guard": "only instructions per request against nginx, with --no-worse",
        "--no-worse": "where a target is not reached yet, only what was reached must be held",
    }.items():
        parser.add_argument(option, action="store_true", help=help_text)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
