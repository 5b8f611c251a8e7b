"""IBM's clients that insist on logging in, with a dummy key: they log in at the proxy, and work with its credential."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from ibm_cloud_sdk_core import BaseService, get_authenticator_from_environment
from ibm_cloud_sdk_core.authenticators import (
    Authenticator,
    CloudPakForDataAuthenticator,
    ContainerAuthenticator,
    IAMAssumeAuthenticator,
    IAMAuthenticator,
    MCSPAuthenticator,
    MCSPV2Authenticator,
)
from ibm_watsonx_ai import APIClient, Credentials
from ibm_watsonx_ai.foundation_models import ModelInference

from rig import Proxy, Simulator

MODEL = "ibm/granite-3-3-8b-instruct"
DUMMY = "a-key-that-is-worth-nothing"
PROMPT = "what is new in Armonk"
ECHO = "You said: what is new in Armonk"


@pytest.fixture(scope="module")
def url(proxy: Proxy) -> str:
    return f"http://127.0.0.1:{proxy.port('plain')}"


@pytest.fixture(autouse=True)
def only_the_proxys_credential_arrives(
    fresh_record: None, request: pytest.FixtureRequest, simulator: Simulator
):
    """No login, no decoy, and nothing of the dummy: whatever a client sends, the calls that count are the proxy's."""
    yield
    arrived = simulator.received()
    assert arrived or "told" not in request.fixturenames
    for one in arrived:
        is_public = one.target.startswith("/ml/wml_services/v2/version")
        assert one.values("authorization") == ([] if is_public else [simulator.bearer()]), one.target
        assert not any(word in one.target for word in ("icp4d-api", "authorize", "identity", "preauth", "apikeys"))
        assert DUMMY not in one.body + str(one.headers)


def calls(url: str, authenticator: Authenticator, told: list[str]) -> None:
    """What an SDK's generated operation does, twice with one login."""
    service = BaseService(service_url=url, authenticator=authenticator)
    for _ in range(2):
        request = service.prepare_request(
            "POST",
            "/ml/v1/text/generation",
            params={"version": "2025-02-01"},
            data={"model_id": MODEL, "project_id": "p", "input": PROMPT},
        )
        answer = service.send(request, timeout=20)
        told.append(f"{answer.get_headers()}\n{answer.get_result()}")
        assert answer.get_result()["results"][0]["generated_text"] == ECHO


@pytest.mark.parametrize("path", ["/icp4d-api", ""])
@pytest.mark.parametrize("secret", ["apikey", "password"])
def test_cp4d(url: str, told: list[str], secret: str, path: str) -> None:
    secrets = {secret: DUMMY}
    calls(url, CloudPakForDataAuthenticator("anybody", url=f"{url}{path}", **secrets), told)


@pytest.mark.parametrize("more", [{}, {"client_id": "bx", "client_secret": "bx", "scope": "ibm openid"}])
def test_iam(url: str, told: list[str], more: dict[str, str]) -> None:
    calls(url, IAMAuthenticator(DUMMY, url=url, **more), told)


def test_iam_assume(url: str, told: list[str]) -> None:
    calls(url, IAMAssumeAuthenticator(DUMMY, url=url, iam_profile_id="Profile-1"), told)


def test_container(url: str, told: list[str], tmp_path: Path) -> None:
    (tmp_path / "token").write_text(DUMMY)
    authenticator = ContainerAuthenticator(
        url=url, cr_token_filename=str(tmp_path / "token"), iam_profile_name="any"
    )
    calls(url, authenticator, told)


def test_mcsp(url: str, told: list[str]) -> None:
    calls(url, MCSPAuthenticator(DUMMY, url), told)


@pytest.mark.parametrize("collection", ["accounts", "subscriptions", "services"])
def test_mcsp_v2(url: str, told: list[str], collection: str) -> None:
    authenticator = MCSPV2Authenticator(
        apikey=DUMMY, url=url, scope_collection_type=collection, scope_id="any-1"
    )
    calls(url, authenticator, told)


def test_properties_of_the_environment(
    url: str, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the program changes: only where the service and its login are."""
    for name, value in {
        "URL": url,
        "AUTH_TYPE": "cp4d",
        "AUTH_URL": f"{url}/icp4d-api",
        "USERNAME": "anybody",
        "APIKEY": DUMMY,
    }.items():
        monkeypatch.setenv(f"DECOYED_{name}", value)
    calls(url, get_authenticator_from_environment("decoyed"), told)


@pytest.fixture
def credentials(proxy: Proxy, folder: Path) -> dict[str, str]:
    """What `ibm-watsonx-ai` is always given: it wants TLS."""
    return {
        "url": f"https://localhost:{proxy.port('tls')}",
        "verify": str(folder / "state" / "ca.crt"),
    }


def chats(credentials: Credentials, told: list[str]) -> None:
    model = ModelInference(
        model_id=MODEL, api_client=APIClient(credentials), project_id="12ac4cf1-252f-424b-b52d-5cdd9814987f"
    )
    answer = model.chat(messages=[{"role": "user", "content": PROMPT}])
    told.append(str(answer))
    assert answer["choices"][0]["message"]["content"] == ECHO


def test_watsonx_ai_with_a_key(credentials: dict[str, str], told: list[str]) -> None:
    chats(Credentials(username="anybody", api_key=DUMMY, version="5.2", **credentials), told)


def test_watsonx_ai_with_a_password_and_identity_management(
    credentials: dict[str, str], told: list[str]
) -> None:
    """`bedrock_url`, or it would post the password to a host that it guesses."""
    bedrock_url = credentials["url"]
    chats(
        Credentials(
            username="anybody", password=DUMMY, bedrock_url=bedrock_url, version="5.2", **credentials
        ),
        told,
    )


def test_watsonx_ai_as_on_ibm_cloud(credentials: dict[str, str], told: list[str]) -> None:
    """`auth_url`, or it would post the key to IBM's own host."""
    url = credentials["url"]
    chats(
        Credentials(platform_url=url, auth_url=f"{url}/identity/token", api_key=DUMMY, **credentials), told
    )


@pytest.mark.parametrize("way", ["cp4d", "cp4d-password", "iam", "iam-with-client", "mcsp", "mcsp-v2"])
def test_node(url: str, told: list[str], way: str) -> None:
    modules = os.environ["NODE_MODULES"]
    script = Path(__file__).parent / "node" / "logins.js"
    ended = subprocess.run(
        ["node", script, url, way],
        env=os.environ | {"NODE_PATH": modules},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ended.returncode == 0, ended.stderr
    told.append(ended.stdout)
    assert json.loads(ended.stdout)["results"][0]["generated_text"] == "You said: good morning"


def test_the_log_says_so(proxy: Proxy) -> None:
    """Last: every login of this file was one decoy."""
    requests = [event for event in proxy.events() if event["message"] == "request"]
    decoys = [event for event in requests if event.get("decoy")]
    assert len(decoys) >= 20
    for event in decoys:
        assert (event["status"], event["route"], "code" in event) == (200, "platform", False)
    assert DUMMY not in proxy.log()
