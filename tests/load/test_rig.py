"""What the rig reads from other programs, and how it judges: `python3 -m unittest discover -s tests/load`."""

import unittest

import targets
from counts import parse_callgrind, parse_perf, parse_strace
from loads import check, parse_wrk
from results import NGINX, OURS, Results
from targets import Target


class Readings(unittest.TestCase):
    def test_perf_counts_user_and_kernel(self) -> None:
        counts = "# started on Sun\n\n123400,,instructions:u,2000,100.00,,\n56,,instructions:k,2000,100.00,,\n"
        self.assertEqual(parse_perf(counts), (123400, 56))

    def test_a_machine_without_counters_is_noticed(self) -> None:
        counts = "<not supported>,,instructions:u,0,100.00,,\n<not supported>,,instructions:k,0,100.00,,\n"
        self.assertRaises(RuntimeError, parse_perf, counts)

    def test_callgrind_counts_what_came_since_the_last_dump(self) -> None:
        self.assertEqual(parse_callgrind("events: Ir\nsummary: 12\nfn=(1) main\n3 4\n\ntotals: 123456\n"), 123456)

    def test_strace_adds_up_with_errors_and_without(self) -> None:
        head = "% time     seconds  usecs/call     calls    errors syscall\n"
        self.assertEqual(parse_strace(head + "100.00    0.012345           1     10373        12 total\n"), 10373)
        self.assertEqual(parse_strace(head + "100.00    0.012345           1     10373           total\n"), 10373)

    def test_wrk_tells_times_in_three_units(self) -> None:
        printed = "     50%  850.00us\n     99%    1.25ms\n  28959 requests in 3.00s, 1.00MB read\n"
        latencies = parse_wrk(printed)
        self.assertEqual((latencies.requests, latencies.p50_ms, latencies.p99_ms), (28959, 0.85, 1.25))
        self.assertEqual(parse_wrk(printed.replace("1.25ms", "1.25s")).p99_ms, 1250)

    def test_a_request_that_failed_is_no_figure(self) -> None:
        self.assertRaises(RuntimeError, parse_wrk, "  Non-2xx or 3xx responses: 1\n")
        printed = "requests: 100 total, 100 started, 100 done, {} succeeded, 0 failed\nstatus codes: {} 2xx, 0 3xx\n"
        check(printed.format(100, 100), 100)
        self.assertRaises(RuntimeError, check, printed.format(100, 99), 100)


class Judgement(unittest.TestCase):
    TARGET = Target(targets.instructions(targets.PLAIN, False), 1.10, peer=NGINX, held_at=1.50)

    def verdict(self, ours: float, may_be_held: bool) -> targets.Verdict:
        results = Results()
        results.add(self.TARGET.row, OURS, ours)
        results.add(self.TARGET.row, NGINX, 20)
        return targets.judge_one(self.TARGET, results, may_be_held)

    def test_a_target_is_a_ratio_to_the_peer_of_the_same_run(self) -> None:
        good, line = self.verdict(22, may_be_held=False)
        self.assertTrue(good)
        self.assertIn("measured 1.1;", line)

    def test_what_is_not_counted_is_added_to_both(self) -> None:
        target = Target(self.TARGET.row, 1.10, peer=NGINX, uncounted=30)
        results = Results()
        results.add(target.row, OURS, 25)
        results.add(target.row, NGINX, 20)
        self.assertAlmostEqual(target.measured(results) or 0, 1.10)
        results.add(targets.QUERY, OURS, 30)
        query = Target(targets.QUERY, 1.03, baseline=target.row, uncounted=25)
        self.assertAlmostEqual(query.measured(results) or 0, 1.10)
        self.assertIsNone(Target(target.row, 1, peer=targets.ENVOY, uncounted=30).measured(results))

    def test_what_is_held_is_missed_all_the_same(self) -> None:
        self.assertFalse(self.verdict(22.1, may_be_held=False)[0])
        good, line = self.verdict(30, may_be_held=True)
        self.assertTrue(good)
        self.assertTrue(line.startswith("MISSED"), line)

    def test_what_gets_worse_than_held_fails(self) -> None:
        self.assertFalse(self.verdict(30.1, may_be_held=True)[0])

    def test_what_was_not_measured_is_not_judged(self) -> None:
        self.assertIsNone(targets.judge_one(self.TARGET, Results(), may_be_held=False))

    def test_times_beside_other_programs_are_told_and_not_judged(self) -> None:
        results = Results(disturbed={targets.START})
        results.add(targets.START, OURS, 1000)
        good, line = targets.judge_one(Target(targets.START, 20), results, may_be_held=False)
        self.assertIsNone(good)
        self.assertTrue(line.startswith("not judged"), line)


if __name__ == "__main__":
    unittest.main()
