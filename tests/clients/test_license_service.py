"""curl on License Service: the reports, and the snapshot as an auditor takes it."""

import json
import ssl
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from rig import Proxy, Simulator

Curl = Callable[..., bytes]
PERIOD = "startDate=2026-01-01&endDate=2026-01-31"


@pytest.fixture
def curl(proxy: Proxy, told: list[str], tmp_path: Path) -> Curl:
    """Calls a path, expecting success; the body."""

    def curl(path: str, *options: str) -> bytes:
        head = tmp_path / "head"
        url = f"http://127.0.0.1:{proxy.port('plain')}{path}"
        command = ["curl", "--silent", "--show-error", "--fail", "--max-time", "20", "--noproxy", "*"]
        done = subprocess.run(
            [*command, "--dump-header", head, *options, url], stdout=subprocess.PIPE, check=True
        )
        told.append(head.read_text() + done.stdout.decode(errors="replace"))
        return done.stdout

    return curl


def test_products(curl: Curl, simulator: Simulator) -> None:
    products = json.loads(curl("/license/products"))
    assert "IBM watsonx.ai" in [product["name"] for product in products]
    [request] = simulator.received()
    assert request.target == f"/products?token={simulator.license_token}"
    assert request.values("authorization") == []


def test_products_by_service_account(curl: Curl, simulator: Simulator) -> None:
    assert json.loads(curl("/license-by-account/products"))
    [request] = simulator.received()
    assert request.target == "/products"
    assert request.values("authorization") == [f"Bearer {simulator.service_account_token}"]


@pytest.mark.parametrize(
    "query",
    [
        "token=forged",
        "token=forged&token=again",
        "%74oken=forged",
        "token",
    ],
)
def test_forged_token_is_harmless(curl: Curl, simulator: Simulator, query: str) -> None:
    assert json.loads(curl(f"/license/products?{query}&{PERIOD}"))
    [request] = simulator.received()
    assert request.target == f"/products?{PERIOD}&token={simulator.license_token}"


def test_other_parameters_stay_as_they_are(curl: Curl, simulator: Simulator) -> None:
    assert curl(f"/license/products?{PERIOD}&format=csv").startswith(b"name,id,metricName")
    [request] = simulator.received()
    assert request.target == f"/products?{PERIOD}&format=csv&token={simulator.license_token}"


def test_version_is_asked_for_without_a_credential(curl: Curl, simulator: Simulator) -> None:
    assert json.loads(curl("/license/version")) == {"version": "4.2.23"}
    [request] = simulator.received()
    assert request.target == "/version"
    assert request.values("authorization") == []


def test_head(curl: Curl, simulator: Simulator, told: list[str]) -> None:
    curl("/license/products", "--head")
    assert "200 OK" in told[-1].splitlines()[0]
    [request] = simulator.received()
    assert request.method == "HEAD"


def test_snapshot_stands_up_to_an_audit(curl: Curl, told: list[str], tmp_path: Path) -> None:
    archive = tmp_path / "snapshot.zip"
    archive.write_bytes(curl(f"/license/snapshot?{PERIOD}"))
    assert 'filename="license_snapshot_2026-01-01_2026-01-31.zip"' in told[-1]
    for command in (
        "unzip -q snapshot.zip",
        "sha256sum --strict -c checksum.txt",
        "openssl dgst -sha256 -verify pub_key.pem -signature signature.rsa checksum.txt",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True, timeout=20)
    assert len(list(tmp_path.glob("*_2026-01-01_2026-01-31.csv"))) == 3
    told += [file.read_text() for file in tmp_path.glob("*.csv")]


def test_snapshot_is_not_touched(curl: Curl, simulator: Simulator) -> None:
    """Signed evidence: byte for byte what License Service gives to whoever holds the token."""
    trust = ssl.create_default_context(cafile=simulator.ca_file)
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    )
    url = f"{simulator.license_url}/snapshot?{PERIOD}&token={simulator.license_token}"
    with direct.open(url, timeout=20) as answer:
        assert curl(f"/license/snapshot?{PERIOD}") == answer.read()


def test_status_page_does_not_tell_the_token(curl: Curl, simulator: Simulator) -> None:
    page = curl("/license/status").decode()
    assert "License Service status" in page
    assert simulator.license_token not in page
