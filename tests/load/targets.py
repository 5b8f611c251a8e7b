"""What must be reached, in one place; and where it is not reached yet, what must not get worse."""

from dataclasses import dataclass

from results import ENVOY, HAPROXY, NGINX, OURS, Results


@dataclass(frozen=True)
class Target:
    row: str
    at_most: float
    # A ratio to what a peer needs in the same run; else a figure as it is.
    peer: str | None = None
    # A ratio to what we need for this row in the same run.
    baseline: str | None = None
    # What both have besides, since the row does not have it.
    uncounted: float = 0
    # Missed so far, or hardly reached: as it was measured, and a little more for what differs from run to run. To be
    # lowered with each gain, and to be taken away once the target is reached with room to spare.
    held_at: float | None = None

    def measured(self, results: Results) -> float | None:
        ours = results.number(self.row, OURS)
        if ours is None or not (self.peer or self.baseline):
            return ours
        other = results.number(self.row, self.peer) if self.peer else results.number(self.baseline, OURS)
        return (ours + self.uncounted) / (other + self.uncounted) if other else None

    def __str__(self) -> str:
        of = f" x {self.peer}" if self.peer else f" x {self.baseline}" if self.baseline else ""
        with_uncounted = f", with {self.uncounted:g} of the kernel's for each" if self.uncounted else ""
        return f"{self.row}{with_uncounted}: at most {self.at_most:g}{of}"


def instructions(row: str, counts_kernel: bool) -> str:
    return f"{row}: instructions, user and kernel (k)" if counts_kernel else f"{row}: user instructions (k)"


# What the kernel takes for a request, in thousands of instructions, on a machine that counts them: nearly the same for
# every proxy (31.0 to 31.1 and 25.0 to 26.8 for ours, nginx and HAProxy), and less for those with fewer system calls. So
# to take it for the same is in favour of the others.
KERNEL_PLAIN, KERNEL_TLS = 31, 26


def targets(counts_kernel: bool) -> list[Target]:
    """The targets are for user and kernel together. Where the kernel's part is not counted, it is added as it is
    known."""
    plain, https = instructions(PLAIN, counts_kernel), instructions(HTTPS, counts_kernel)
    of_plain, of_tls = (0, 0) if counts_kernel else (KERNEL_PLAIN, KERNEL_TLS)
    return [
        # 1.05, 0.88 to 0.90 and 1.02 on 2026-11-22. The first aim for plain was 1.10: what was gained since is kept. For
        # https nginx takes 40.5 k to 41.7 k from run to run, and ours 34.0 k in each.
        Target(plain, 1.07, peer=NGINX, uncounted=of_plain),
        Target(https, 0.92, peer=NGINX, uncounted=of_tls),
        Target(https, 0.80, peer=HAPROXY, uncounted=of_tls),
        Target(https, 0.34, peer=ENVOY, uncounted=of_tls),
        Target(instructions(QUERY, counts_kernel), 1.03, baseline=plain, uncounted=of_plain),
        # 0.92 to 1.06 on 2026-11-22: the same, nearly all of it the kernel's.
        Target(instructions(BIG, True) if counts_kernel else BIG_TIME, 1.00, peer=ENVOY, held_at=1.10),
        Target(IDLE, 2),
        Target(IDLE_TLS, 12),
        # 8.8 to 10.2: how many pages of the binary come with each that is touched is the kernel's choice.
        Target(RSS_AT_START, 10, held_at=11),
        Target(START, 20),
        Target(EVENTS_P99, 1),
        Target(FIRST_LOGINS, 1),
        # One where the machine stands still for a moment; a renewal that is waited for holds up all 64 connections.
        Target(RENEWAL_DELAYED, 0, held_at=3),
    ]


# Whether it is good enough, or nothing where that cannot be said; and a line for people.
Verdict = tuple[bool | None, str]


def judge(results: Results, counts_kernel: bool, may_be_held: bool) -> list[Verdict]:
    """For each target whose row was measured."""
    verdicts = (judge_one(target, results, may_be_held) for target in targets(counts_kernel))
    return [verdict for verdict in verdicts if verdict]


def judge_one(target: Target, results: Results, may_be_held: bool) -> Verdict | None:
    measured = target.measured(results)
    if measured is None:
        return None
    if target.row in results.disturbed:
        return None, f"not judged: {target}; measured {measured:.3g} while other programs were at work"
    is_reached = measured <= target.at_most
    is_held = may_be_held and target.held_at is not None and measured <= target.held_at
    held = f"; held at {target.held_at:g} until then" if target.held_at is not None else ""
    return is_reached or is_held, f"{'reached' if is_reached else 'MISSED'}: {target}; measured {measured:.3g}{held}"


PLAIN = "plain upstream, 1 KB"
HTTPS = "HTTPS upstream, 1 KB"
QUERY = "?token= instead of a header"
POST = "POST of 16 KB"
BIG = "10 MB body over HTTPS"
BIG_TIME = f"{BIG}: processor time (ms)"
HTTP2 = "HTTP/2 clients, 1 KB"
TWO_WORKERS = "two workers, plain upstream, 1 KB"
IDLE = "idle keep-alive connection (KB)"
IDLE_TLS = "idle keep-alive connection, TLS listener (KB)"
RSS_AT_START = "resident at start (MB)"
START = "start to listening (ms)"
EVENTS_P50 = "500 event streams: delay added to an event, p50 (ms)"
EVENTS_P99 = "500 event streams: delay added to an event, p99 (ms)"
FIRST_LOGINS = "logins for 1,000 simultaneous first requests"
RENEWALS = "renewals under full load"
RENEWAL_DELAYED = f"{RENEWALS}: requests held up for more than 0.1 s"
