"""IBM's SDK core for Python logs in to the simulator, without the proxy: what the simulator takes is what IBM's own
clients send, byte for byte."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from ibm_cloud_sdk_core import ApiException
from ibm_cloud_sdk_core.authenticators import (
    Authenticator,
    CloudPakForDataAuthenticator,
    ContainerAuthenticator,
    IAMAssumeAuthenticator,
    IAMAuthenticator,
    MCSPAuthenticator,
    MCSPV2Authenticator,
    VPCInstanceAuthenticator,
)

from rig import Simulator


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """One of its own: elsewhere, the token that was issued last is the proxy's."""
    simulator = Simulator(os.environ["SIMULATOR"], tmp_path_factory.mktemp("logins"))
    yield simulator
    simulator.stop()


@pytest.fixture(autouse=True)
def fresh_record() -> None:
    """In place of the one that starts the proxy."""


@pytest.fixture(autouse=True)
def trusted(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metadata service's client has no setting for it."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", simulator.ca_file)


def authorization(authenticator: Authenticator) -> str:
    request = {"headers": {}}
    authenticator.authenticate(request)
    return request["headers"]["Authorization"]


def assert_opens_the_apis(simulator: Simulator, authenticator: Authenticator) -> None:
    specs = requests.get(
        f"{simulator.platform_url}/ml/v1/foundation_model_specs?version=2025-02-01",
        headers={"Authorization": authorization(authenticator)},
        timeout=20,
    )
    assert specs.status_code == 200
    assert simulator.received()[-1].tokens == ["valid"]


def test_cp4d(simulator: Simulator) -> None:
    url = f"{simulator.platform_url}/icp4d-api"
    authenticator = CloudPakForDataAuthenticator(simulator.username, apikey=simulator.api_key, url=url)
    assert_opens_the_apis(simulator, authenticator)


@pytest.mark.parametrize("more", [{}, {"client_id": "bx", "client_secret": "bx", "scope": "ibm openid"}])
def test_iam(simulator: Simulator, more: dict[str, str]) -> None:
    authenticator = IAMAuthenticator(simulator.iam_api_key, url=simulator.platform_url, **more)
    assert_opens_the_apis(simulator, authenticator)


def test_iam_with_a_wrong_key(simulator: Simulator) -> None:
    with pytest.raises(ApiException) as raised:
        authorization(IAMAuthenticator("wrong", url=simulator.platform_url))
    assert raised.value.status_code == 400
    assert raised.value.http_response.json()["errorCode"] == "BXNIM0415E"


@pytest.mark.parametrize("named", ["crn", "id", "name"])
def test_iam_assume(simulator: Simulator, named: str) -> None:
    profile = {f"iam_profile_{named}": simulator.profile[named]}
    if named == "name":
        profile["iam_account_id"] = simulator.profile["account"]
    authenticator = IAMAssumeAuthenticator(simulator.iam_api_key, url=simulator.platform_url, **profile)
    assert_opens_the_apis(simulator, authenticator)


@pytest.mark.parametrize("named", [("id",), ("name",), ("id", "name")])
def test_container(simulator: Simulator, tmp_path: Path, named: tuple[str, ...]) -> None:
    token = tmp_path / "token"
    token.write_text(simulator.compute_resource_token)
    profile = {f"iam_profile_{name}": simulator.profile[name] for name in named}
    authenticator = ContainerAuthenticator(cr_token_filename=str(token), url=simulator.platform_url, **profile)
    assert_opens_the_apis(simulator, authenticator)


@pytest.mark.parametrize("version", ["2022-03-01", "2025-08-26"])
@pytest.mark.parametrize("named", ["crn", "id", "name", None])
def test_vpc(simulator: Simulator, version: str, named: str | None) -> None:
    profile = {f"iam_profile_{named}": simulator.profile[named]} if named else {}
    authenticator = VPCInstanceAuthenticator(
        url=simulator.platform_url, service_version=version, **profile
    )
    assert_opens_the_apis(simulator, authenticator)


def test_mcsp(simulator: Simulator) -> None:
    assert_opens_the_apis(simulator, MCSPAuthenticator(simulator.mcsp_api_key, simulator.platform_url))


def test_mcsp_v2(simulator: Simulator) -> None:
    collection, scope = simulator.mcsp_scope.split("/")
    authenticator = MCSPV2Authenticator(
        apikey=simulator.mcsp_api_key,
        url=simulator.platform_url,
        scope_collection_type=collection,
        scope_id=scope,
        include_custom_actions=True,
        caller_ext_claim={"productID": "p-1"},
    )
    assert_opens_the_apis(simulator, authenticator)
