"""After everything else (files run in the order of their names): no secret has left the proxy but to its upstream."""

from rig import Proxy, Simulator, leaked


def test_clients_were_told_none(told: list[str], simulator: Simulator) -> None:
    assert len(told) > 20, "run the other files as well"
    assert leaked("\n".join(told), simulator) == []


def test_metrics_tell_none(proxy: Proxy, simulator: Simulator) -> None:
    metrics = proxy.admin("/metrics")
    assert 'route="platform"' in metrics
    assert leaked(metrics, simulator) == []


def test_readiness_tells_none(proxy: Proxy, simulator: Simulator) -> None:
    assert leaked(proxy.admin("/readyz?require=all"), simulator) == []


def test_log_at_trace_level_tells_none(proxy: Proxy, simulator: Simulator) -> None:
    """From the first line to the last: the proxy is asked to end, and does so in order."""
    assert proxy.stop() == 0
    events = proxy.events()
    levels = {event["level"] for event in events}
    assert "DEBUG" in levels, "the log does not tell all that it could"
    assert sum(event["message"] == "request" for event in events) > 20
    assert leaked(proxy.log(), simulator) == []
