"""HTTP/2 as others understand it: a conformance suite, and a load generator that loses no request."""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest

from rig import PATIENCE, Proxy, Simulator, write_config

CONFIG = """
workers = 2
state_dir = "state"
log.access = false

[listener.plain]
address = "127.0.0.1:0"

[admin]
address = "127.0.0.1:0"

[upstream.platform]
url = "{platform_url}"
tls = {{ ca = "ca.pem" }}

[credential.platform.cp4d]
upstream = "platform"
username = "{username}"
api_key = {{ file = "api-key" }}

[route.platform]
path = "/"
upstream = "platform"
attach = "platform"
"""

# The `h2` library ends the connection as it must, but with the general code PROTOCOL_ERROR where the standard has a more
# particular one (RFC 9113, 5.4.1 and 7: for logs; no peer acts on the difference).
GENERAL_CODE = {
    "closed sends headers frame",
    "closed sends headers frame after rst stream",
    "half closed remote sends data frame",
    "half closed remote sends headers frame",
    "invalid header block fragment",
    "sends data frame on invalid stream state",
    "sends ping frame with invalid length",
    "sends priority frame with invalid length",
    "sends rst stream frame with invalid length",
    "sends settings frame with ack and payload",
    "sends settings frame with invalid length",
    "sends settings initial window size with exceeded max window size value",
    "sends settings initial window size with invalid value",
    "sends window update frame with invalid length",
}

# The suite wants the stream reset; the request is refused with a status instead, as RFC 9113, 8.1.1 allows, and goes
# nowhere.
REFUSED_BY_STATUS = {
    "sends connect without authority",
    "sends headers frame with mismatched host authority",
    "sends headers frame with leading space in field value",
    "sends headers frame with trailing tab in field value",
}

# The `h2` library drops what it is sent there: a promise that a client cannot make, and a pseudo-header in trailers, of
# which nothing goes on.
DROPPED = {
    "client sends push promise frame",
    "sends headers frame with pseudo header in trailer",
}

# The suite sends GOAWAY while no stream is open, and then a PING. The connection may end there (RFC 9113, 6.8), and the
# `h2` library ends it; the PING is answered only where it arrives together with the GOAWAY.
ENDED_AFTER_GOAWAY = {"sends goaway frame with unknown error code"}


@pytest.fixture(scope="module")
def http2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy and a platform of their own: the others look at who logs in."""
    folder = tmp_path_factory.mktemp("http2")
    simulator = Simulator(os.environ["SIMULATOR"], folder)
    config = write_config(folder, simulator, CONFIG)
    proxy = Proxy(os.environ["PROXY"], config, log=folder / "proxy.log")
    yield proxy
    proxy.stop()
    simulator.stop()


def test_conformance(http2: Proxy) -> None:
    argued = GENERAL_CODE | REFUSED_BY_STATUS | DROPPED | ENDED_AFTER_GOAWAY
    passed: set[str] = set()
    # The suite waits a second for a frame, for which a busy machine may be too slow; what is wrong never passes.
    for _ in range(3):
        begun, text = run_suite(http2.port("plain"), passed)
        if begun - passed <= argued:
            return
    pytest.fail(text)


def run_suite(port: int, passed: set[str]) -> tuple[set[str], str]:
    """Runs it once and adds what passed; the cases that it has, and what it said."""
    suite = subprocess.run(
        [
            os.environ["HTTPWG"],
            "--verbose",
            *("--address", f"127.0.0.1:{port}"),
            *("--frame-timeout", "1000"),
            *("--connect-timeout", "5000"),
        ],
        env=os.environ | {"SEQUENTIAL": "1", "RUST_LOG": "error"},
        capture_output=True,
        text=True,
        timeout=10 * PATIENCE,
    )
    text = suite.stdout + suite.stderr
    # One whose own `unwrap` panics is begun and never told of again, hence not "Test failed".
    begun = set(re.findall(r"Running test: .* :: (.*)", text))
    passed |= set(re.findall(r"Test passed: .* :: (.*)", text))
    assert len(begun) > 100 and passed <= begun, text
    return begun, text


@pytest.mark.parametrize("arguments", [["-m", "50"], ["--h1"]], ids=["http2", "http1"])
def test_no_request_is_lost(http2: Proxy, arguments: list[str]) -> None:
    url = f"http://127.0.0.1:{http2.port('plain')}/simulator/status/200"
    load = subprocess.run(
        ["h2load", "-n", "3000", "-c", "20", *arguments, url], capture_output=True, text=True, timeout=10 * PATIENCE
    )
    assert "3000 succeeded, 0 failed, 0 errored, 0 timeout" in load.stdout, load.stdout + load.stderr
    assert "3000 2xx" in load.stdout
