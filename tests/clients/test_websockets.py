"""WebSockets of a real client and a real server, through the proxy: over TCP and TLS on either side."""

import http
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from rig import PATIENCE, Proxy, Simulator, write_config

CONFIG = """
workers = 2
state_dir = "state"

[listener.tcp]
address = "127.0.0.1:0"

[listener.tls]
address = "localhost:0"
tls = {{ self_signed = true }}

[admin]
address = "127.0.0.1:0"

[upstream.tcp]
url = "http://127.0.0.1:TCP_PORT"
plain_http = true

[upstream.tls]
url = "https://localhost:TLS_PORT"
tls = {{ ca = "echo.crt" }}

[credential.secret.token]
value = {{ file = "license-token" }}
upstream = ["tcp", "tls"]

[route.tcp]
path = "/tcp"
upstream = "tcp"
attach = "secret"

[route.tls]
path = "/tls"
upstream = "tls"
attach = "secret"
"""

# Around every change of the header of a frame, and above what any buffer on the way holds.
SIZES = [0, 1, 125, 126, 127, 128, 65_535, 65_536, 1 << 20, 8 << 20]


@dataclass
class Echo:
    """A server that sends back each message as it is, and takes nobody without the secret."""

    secret: str
    handshakes: list[Request] = field(default_factory=list)

    def check(self, connection: ServerConnection, request: Request) -> Response | None:
        self.handshakes.append(request)
        if request.headers.get_all("authorization") != [f"Bearer {self.secret}"]:
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "no secret\n")
        if request.path.endswith("/forbidden"):
            return connection.respond(http.HTTPStatus.FORBIDDEN, "not for you\n")
        return None

    def talk(self, connection: ServerConnection) -> None:
        for message in connection:
            if message == "go away":
                connection.close(4001, "as you wish")
            else:
                connection.send(message)


@contextmanager
def serving(echo: Echo, tls: ssl.SSLContext | None) -> Iterator[int]:
    options = {"process_request": echo.check, "max_size": None, "subprotocols": ["chat"]}
    with serve(echo.talk, "127.0.0.1", 0, ssl=tls, **options) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.socket.getsockname()[1]


@pytest.fixture(scope="module")
def echo(simulator: Simulator) -> Echo:
    return Echo(simulator.license_token)


@pytest.fixture(scope="module")
def between(tmp_path_factory: pytest.TempPathFactory, simulator: Simulator, echo: Echo) -> Iterator[tuple[Proxy, Path]]:
    folder = tmp_path_factory.mktemp("websockets")
    certificate, key = folder / "echo.crt", folder / "echo.key"
    subject = ["-subj", "/CN=echo", "-addext", "subjectAltName=DNS:localhost"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*made, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with serving(echo, None) as tcp_port, serving(echo, tls) as tls_port:
        template = CONFIG.replace("TCP_PORT", str(tcp_port)).replace("TLS_PORT", str(tls_port))
        proxy = Proxy(os.environ["PROXY"], write_config(folder, simulator, template), log=folder / "proxy.log")
        yield proxy, folder
        proxy.stop()


@pytest.fixture(params=["tcp", "tls"])
def listener(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["tcp", "tls"])
def upstream(request: pytest.FixtureRequest) -> str:
    return request.param


def opened(between: tuple[Proxy, Path], listener: str, path: str, **options: object) -> ClientConnection:
    proxy, folder = between
    scheme, trust = "ws", None
    if listener == "tls":
        scheme, trust = "wss", ssl.create_default_context(cafile=folder / "state" / "ca.crt")
    url = f"{scheme}://localhost:{proxy.port(listener)}{path}"
    defaults = {"max_size": None, "open_timeout": PATIENCE, "proxy": None, "subprotocols": ["chat"]}
    return connect(url, ssl=trust, **defaults | options)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_messages_of_every_size(
    between: tuple[Proxy, Path], listener: str, upstream: str, compression: str | None
) -> None:
    with opened(between, listener, f"/{upstream}/echo", compression=compression) as client:
        for size in SIZES:
            message = os.urandom(size)
            client.send(message)
            assert client.recv(timeout=PATIENCE) == message
        client.send("grüße")
        assert client.recv(timeout=PATIENCE) == "grüße"


def test_fragments(between: tuple[Proxy, Path], listener: str, upstream: str) -> None:
    fragments = [os.urandom(size) for size in SIZES]
    with opened(between, listener, f"/{upstream}/echo") as client:
        client.send(fragments)
        assert client.recv(timeout=PATIENCE) == b"".join(fragments)
        assert client.ping().wait(PATIENCE)


def test_handshake_carries_the_secret_and_nothing_forged(between: tuple[Proxy, Path], echo: Echo) -> None:
    echo.handshakes.clear()
    forged = {"Authorization": "Bearer forged", "Cookie": "session=forged"}
    with opened(between, "tcp", "/tcp/echo", additional_headers=forged) as client:
        assert client.subprotocol == "chat"
        assert echo.secret not in str(client.response.headers)
    [handshake] = echo.handshakes
    assert handshake.headers.get_all("authorization") == [f"Bearer {echo.secret}"]
    assert "forged" not in str(handshake.headers)


@pytest.mark.parametrize("who", ["client", "server"])
def test_close_codes_pass(between: tuple[Proxy, Path], listener: str, upstream: str, who: str) -> None:
    with opened(between, listener, f"/{upstream}/echo") as client:
        if who == "client":
            client.close(4000, "done")
            assert (client.close_code, client.close_reason) == (4000, "done")
            return
        client.send("go away")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=PATIENCE)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as you wish")


def test_refusal_is_the_servers_own(between: tuple[Proxy, Path], listener: str, upstream: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        opened(between, listener, f"/{upstream}/forbidden")
    answer = refused.value.response
    assert (answer.status_code, answer.body) == (403, b"not for you\n")


def test_many_at_once(between: tuple[Proxy, Path], upstream: str) -> None:
    clients = [opened(between, "tcp", f"/{upstream}/echo") for _ in range(40)]
    for number, client in enumerate(clients):
        client.send(f"from {number}")
    for number, client in enumerate(clients):
        assert client.recv(timeout=PATIENCE) == f"from {number}"
        client.close()


def test_all_ended_in_order_and_told_no_secret(between: tuple[Proxy, Path], echo: Echo) -> None:
    proxy, _ = between
    assert proxy.stop() == 0
    lines = [event for event in proxy.events() if event.get("status") == 101]
    assert len(lines) > 40
    assert [line for line in lines if "code" in line] == []
    assert echo.secret not in proxy.log()
