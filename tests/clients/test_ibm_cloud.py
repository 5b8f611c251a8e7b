"""`ibm-watsonx-ai` as on IBM Cloud: models on one host, projects on another, one token of IAM for both.

With `platform_url` the client takes any address for IBM Cloud: it asks for no version, and sends what is under `/v2`
there. Both addresses are the proxy's, which tells the two hosts apart by the path.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ibm_watsonx_ai import APIClient, Credentials
from ibm_watsonx_ai.foundation_models import ModelInference

from rig import Proxy, Received, Simulator, leaked, write_config

# To be taken out with the first proxy that knows the kind `iam`.
Arrived = Callable[[], list[Received]]
PROJECT = "12ac4cf1-252f-424b-b52d-5cdd9814987f"
PROMPT = "what is new in Armonk"
ECHO = ["You", " said:", " what", " is", " new", " in", " Armonk"]


@pytest.fixture(scope="module")
def cloud_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cloud")


@pytest.fixture(scope="module")
def cloud(cloud_folder: Path) -> Iterator[Simulator]:
    cloud = Simulator(os.environ["SIMULATOR"], cloud_folder, "--cloud")
    yield cloud
    cloud.stop()


@pytest.fixture(scope="module")
def cloud_proxy(cloud_folder: Path, cloud: Simulator) -> Iterator[Proxy]:
    config = write_config(cloud_folder, cloud, CONFIG)
    proxy = Proxy(os.environ["PROXY"], config, log=cloud_folder / "proxy.log")
    yield proxy
    proxy.stop()


@pytest.fixture(scope="module")
def cloud_told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def model(
    cloud: Simulator, cloud_proxy: Proxy, cloud_folder: Path, cloud_told: list[str]
) -> ModelInference:
    url = f"https://localhost:{cloud_proxy.port('tls')}"
    credentials = Credentials(
        url=url, platform_url=url, token="a.b.c", verify=str(cloud_folder / "state" / "ca.crt")
    )
    cloud.received()
    client = APIClient(credentials)
    assert client.CLOUD_PLATFORM_SPACES
    # Whoever thinks that it talks to Software Hub asks for its version first.
    assert cloud.received() == []
    client.httpx_client.event_hooks["response"].append(
        lambda response: cloud_told.append(str(response.headers))
    )
    return ModelInference(
        model_id="ibm/granite-3-3-8b-instruct", api_client=client, project_id=PROJECT
    )


@pytest.fixture(autouse=True)
def fresh_record() -> None:
    """In place of the one that starts the other proxy."""


@pytest.fixture
def arrived(model: ModelInference, cloud: Simulator) -> Arrived:
    """What a test's own calls sent upstream."""
    cloud.received()

    def arrived() -> list[Received]:
        requests = cloud.received()
        for request in requests:
            assert request.values("authorization") == [cloud.bearer()], request.target
            assert request.tokens == ["valid"], request.target
        return requests

    return arrived


def test_the_token_is_that_of_the_api_key(cloud_proxy: Proxy, cloud: Simulator) -> None:
    """First, so that the login is still in the record."""
    [login] = [request for request in cloud.received() if request.target == "/identity/token"]
    assert login.service == "platform"
    assert login.body.startswith("grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey=")


def test_models_are_on_one_host(model: ModelInference, arrived: Arrived, cloud_told: list[str]) -> None:
    text = model.generate_text(PROMPT)
    cloud_told.append(text)
    assert text == "".join(ECHO)
    [request] = arrived()
    assert (request.service, request.target.split("?")[0]) == ("platform", "/ml/v1/text/generation")


def test_projects_are_on_the_other(model: ModelInference, arrived: Arrived, cloud_told: list[str]) -> None:
    details = model._client.projects.get_details(PROJECT)
    cloud_told.append(str(details))
    assert details["metadata"]["guid"] == PROJECT
    [request] = arrived()
    assert request.service == "data_platform"
    assert request.target.startswith(f"/v2/projects/{PROJECT}")


def test_default_project_is_looked_up(model: ModelInference, arrived: Arrived) -> None:
    model._client.default_project_id = None
    assert model._client.set.default_project(PROJECT) == "SUCCESS"
    assert {request.service for request in arrived()} == {"data_platform"}


def test_chat_stream(model: ModelInference, arrived: Arrived, cloud_told: list[str]) -> None:
    chunks = list(model.chat_stream(messages=[{"role": "user", "content": PROMPT}]))
    cloud_told += [str(chunk) for chunk in chunks]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices", [])]
    assert [delta["content"] for delta in deltas if delta.get("content")] == ECHO
    assert {request.service for request in arrived()} == {"platform"}


def test_nothing_leaked(cloud_proxy: Proxy, cloud: Simulator, cloud_told: list[str]) -> None:
    """Last: the proxy is asked to end."""
    assert len(cloud_told) > 5
    assert leaked("\n".join(cloud_told), cloud) == []
    assert leaked(cloud_proxy.admin("/metrics"), cloud) == []
    assert cloud_proxy.stop() == 0
    assert leaked(cloud_proxy.log(), cloud) == []


CONFIG = """
workers = 2
state_dir = "state"

[listener.tls]
address = "localhost:0"
tls = {{ self_signed = true }}

[admin]
address = "127.0.0.1:0"

[upstream.ml]
url = "{platform_url}"
tls = {{ ca = "ca.pem" }}

[upstream.platform]
url = "{data_platform_url}"
tls = {{ ca = "ca.pem" }}

[credential.cloud.iam]
upstream = ["ml", "platform"]
apikey = {{ file = "iam-api-key" }}
auth_url = "{platform_url}"
tls = {{ ca = "ca.pem" }}

[route.ml]
path = "/ml"
upstream = "ml"
attach = "cloud"
preset = "watsonx"

[route.platform]
path = "/v2"
upstream = "platform"
attach = "cloud"
preset = "watsonx"
"""
