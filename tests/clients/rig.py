"""The simulator and, in front of it, the release proxy: two processes, as an operator runs them."""

import base64
import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

T = TypeVar("T")


@dataclass(frozen=True)
class Received:
    """One request as the simulator got it."""

    service: str
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: str
    # What each token that it carried was worth when it arrived.
    tokens: list[str]

    def values(self, name: str) -> list[str]:
        """Every value of the header `name`, given in lower case."""
        return [value for header, value in self.headers if header == name]


class Simulator:
    """The platform and License Service; its credentials are random and start with `sim-`. With `--cloud`, the Watson
    Data APIs have a host of their own."""

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        self._process = subprocess.Popen(
            [program, folder, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        start = self._line()
        self.platform_url: str = start["platform_url"]
        self.data_platform_url: str = start["data_platform_url"]
        self.license_url: str = start["license_url"]
        self.ca_file: str = start["ca_file"]
        self.username: str = start["username"]
        self.api_key: str = start["api_key"]
        self.password: str = start["password"]
        self.iam_api_key: str = start["iam_api_key"]
        self.mcsp_api_key: str = start["mcsp_api_key"]
        self.profile: dict[str, str] = start["profile"]
        self.compute_resource_token: str = start["compute_resource_token"]
        self.mcsp_scope: str = start["mcsp_scope"]
        self.license_token: str = start["license_token"]
        self.service_account_token: str = start["service_account_token"]
        self.tokens_issued: list[str] = []

    def received(self, **settings: int | bool) -> list[Received]:
        """What arrived since this was asked last; changes settings besides."""
        print(json.dumps(settings), file=self._process.stdin, flush=True)
        answer = self._line()
        self.tokens_issued = answer["tokens_issued"]
        return [
            Received(**request | {"headers": [(name, value) for name, value in request["headers"]]})
            for request in answer["requests"]
        ]

    @contextmanager
    def endless_streams(self) -> Iterator[None]:
        """Within, a stream sends its first frame, and the next one an hour later: what a client sees of it cannot
        have waited for the rest."""
        self.received(frame_interval_ms=3_600_000)
        try:
            yield
        finally:
            self.received(frame_interval_ms=20)

    def bearer(self) -> str:
        """The Authorization header of the platform token now in force."""
        return f"Bearer {self.tokens_issued[-1]}"

    def zen_api_key(self) -> str:
        """User and API key as ZenApiKey carries them."""
        return base64.b64encode(f"{self.username}:{self.api_key}".encode()).decode()

    def secrets(self) -> list[str]:
        """Everything that nobody but the proxy may hold."""
        self.received()
        return [
            self.api_key,
            self.password,
            self.iam_api_key,
            self.mcsp_api_key,
            self.compute_resource_token,
            self.license_token,
            self.service_account_token,
            self.zen_api_key(),
            *self.tokens_issued,
        ]

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=PATIENCE)

    def _line(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the simulator has ended")
        return json.loads(line)


class Proxy:
    """The release binary, logging all that it can."""

    def __init__(self, program: str, config: Path, log: Path) -> None:
        self._log = log
        self._process = subprocess.Popen(
            [program, "serve", "--config", config],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log.open("w"),
            env=os.environ | {"RUST_LOG": "trace"},
        )
        try:
            self._admin = f"http://127.0.0.1:{self._port('admin listens')}"
            self._poll(self._is_ready, "the credentials were not obtained")
        except Exception:
            self._process.kill()
            raise

    def port(self, listener: str) -> int:
        """The port that a listener of the configuration was given."""
        return self._port("listening", listener=listener)

    def admin(self, path: str) -> str:
        """What the admin address answers."""
        with LOCAL.open(self._admin + path, timeout=PATIENCE) as answer:
            return answer.read().decode()

    def stop(self) -> int:
        """Asks for an orderly end; the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=PATIENCE)

    def log(self) -> str:
        return self._log.read_text()

    def events(self) -> list[dict]:
        """The log, line by line; the last one may still be in the making."""
        lines = self.log().split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def _port(self, message: str, **fields: str) -> int:
        wanted = {"message": message, **fields}

        def port() -> int | None:
            for event in self.events():
                if wanted.items() <= event.items():
                    return int(re.search(r":(\d+)\W*$", event["at"])[1])
            return None

        return self._poll(port, f"no line {wanted} in the log")

    def _is_ready(self) -> bool:
        try:
            return bool(self.admin("/readyz?require=all"))
        except OSError:
            return False

    def _poll(self, look: Callable[[], T | None], complaint: str) -> T:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            if found := look():
                return found
            time.sleep(0.05)
        end = "\n".join(self.log().splitlines()[-20:])
        raise RuntimeError(f"{complaint}; exit code {self._process.poll()}; the end of the log:\n{end}")


def leaked(text: str, simulator: Simulator) -> list[str]:
    """Which secrets stand in a text, raw or percent-encoded; only how they begin is told."""
    secrets = simulator.secrets()
    assert simulator.tokens_issued, "no token was issued: there is nothing to look for"
    return [secret[:8] + "…" for secret in secrets if secret in text or quote(secret, safe="") in text]


def write_config(folder: Path, simulator: Simulator, template: str | None = None) -> Path:
    """The proxy's configuration, with each secret in a file of its own that only its owner may read."""
    for name, secret in {
        "api-key": simulator.api_key,
        "iam-api-key": simulator.iam_api_key,
        "license-token": simulator.license_token,
        "service-account-token": simulator.service_account_token,
    }.items():
        file = folder / name
        file.touch(mode=0o600)
        file.write_text(secret + "\n")
    config = folder / "proxy.toml"
    config.touch(mode=0o600)
    config.write_text(
        (template or CONFIG).format(
            platform_url=simulator.platform_url,
            data_platform_url=simulator.data_platform_url,
            license_url=simulator.license_url,
            username=simulator.username,
        )
    )
    return config


# Whatever the environment says of egress proxies, the rig is on this machine.
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# For what takes a moment; long, since nothing is said about how busy the machine is.
PATIENCE = 30

CONFIG = """
workers = 2
state_dir = "state"

[listener.plain]
address = "127.0.0.1:0"

[listener.tls]
address = "localhost:0"
tls = {{ self_signed = true }}

[admin]
address = "127.0.0.1:0"

[upstream.platform]
url = "{platform_url}"
tls = {{ ca = "ca.pem" }}

[upstream.license]
url = "{license_url}"
tls = {{ ca = "ca.pem" }}

[upstream.nobody]
url = "https://127.0.0.1:1"

[credential.platform.cp4d]
upstream = "platform"
username = "{username}"
api_key = {{ file = "api-key" }}

[credential.zen.zen_api_key]
upstream = "platform"
username = "{username}"
api_key = {{ file = "api-key" }}

[credential.license.token]
value = {{ file = "license-token" }}

[credential.pod.service_account]
value = {{ file = "service-account-token" }}

[route.platform]
path = "/"
upstream = "platform"
attach = "platform"
preset = "watsonx"

[route.zen]
path = "/zen"
strip_prefix = true
upstream = "platform"
attach = "zen"

[route.license]
path = "/license"
upstream = "license"
attach = "license"
preset = "license-service"

[route.license-by-account]
path = "/license-by-account"
upstream = "license"
attach = "pod"
preset = "license-service"

[route.nobody]
path = "/nobody"
upstream = "nobody"
"""
