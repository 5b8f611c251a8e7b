"""IBM's SDK core for Python, without an authenticator: what the SDKs of all watsonx services stand on."""

import pytest
from ibm_cloud_sdk_core import ApiException, BaseService
from ibm_cloud_sdk_core.authenticators import NoAuthAuthenticator

from rig import Proxy, Simulator

MODEL = "ibm/granite-3-3-8b-instruct"
GENERATION = {"model_id": MODEL, "project_id": "p", "input": "good morning"}


@pytest.fixture
def service(proxy: Proxy, told: list[str]) -> BaseService:
    url = f"http://127.0.0.1:{proxy.port('plain')}"
    service = BaseService(service_url=url, authenticator=NoAuthAuthenticator())
    service.get_http_client().hooks["response"].append(
        lambda response, **_: told.append(f"{response.headers}\n{response.text}")
    )
    return service


def call(service: BaseService, method: str, path: str, **parts):
    """What an SDK's generated operation does."""
    parts.setdefault("params", {"version": "2025-02-01"})
    return service.send(service.prepare_request(method, path, **parts), timeout=20)


def test_get_keeps_its_parameters(service: BaseService, simulator: Simulator) -> None:
    params = {"version": "2025-02-01", "limit": 1, "filters": "function_text_chat:and", "note": "a b&c=d"}
    answer = call(service, "GET", "/ml/v1/foundation_model_specs", params=params)
    assert answer.get_result()["resources"][0]["model_id"] == MODEL
    [request] = simulator.received()
    assert request.target == (
        "/ml/v1/foundation_model_specs"
        "?version=2025-02-01&limit=1&filters=function_text_chat%3Aand&note=a+b%26c%3Dd"
    )
    assert request.values("authorization") == [simulator.bearer()]


def test_post_brings_its_json(service: BaseService, simulator: Simulator) -> None:
    answer = call(service, "POST", "/ml/v1/text/generation", data=GENERATION)
    assert answer.get_result()["results"][0]["generated_text"] == "You said: good morning"
    [request] = simulator.received()
    assert '"input": "good morning"' in request.body
    assert request.values("authorization") == [simulator.bearer()]


@pytest.mark.parametrize("forged", ["Bearer forged", "Basic Zm9yZ2VkOmZvcmdlZA==", "ZenApiKey Zm9yZ2Vk"])
def test_forged_authorization_is_replaced(service: BaseService, simulator: Simulator, forged: str) -> None:
    call(service, "POST", "/ml/v1/text/generation", data=GENERATION, headers={"Authorization": forged})
    [request] = simulator.received()
    assert request.values("authorization") == [simulator.bearer()]


def test_zen_api_key_is_attached(service: BaseService, simulator: Simulator) -> None:
    call(service, "POST", "/zen/ml/v1/text/generation", data=GENERATION)
    [request] = simulator.received()
    assert request.target == "/ml/v1/text/generation?version=2025-02-01"
    assert request.values("authorization") == [f"ZenApiKey {simulator.zen_api_key()}"]


def test_public_path_carries_nothing(service: BaseService, simulator: Simulator) -> None:
    headers = {"Authorization": "Bearer forged"}
    answer = call(service, "GET", "/ml/wml_services/v2/version", params={}, headers=headers)
    assert answer.get_result()["version"] == "5.2.2"
    [request] = simulator.received()
    assert request.values("authorization") == []


def test_error_of_the_platform_is_the_platforms(service: BaseService) -> None:
    with pytest.raises(ApiException) as raised:
        call(service, "POST", "/ml/v1/text/generation", data=GENERATION | {"model_id": "acme/none"})
    assert raised.value.status_code == 404
    assert raised.value.message == "Model 'acme/none' is not supported"


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        (
            "POST",
            "/icp4d-api/v1/users",
            403,
            "the platform's token endpoints are closed: the proxy holds the credential",
        ),
        ("GET", "/not/for/clients", 403, "the route does not allow this method and path"),
        ("GET", "/nobody", 502, "the upstream cannot be reached"),
    ],
)
def test_error_of_the_proxy_is_the_proxys(
    service: BaseService, simulator: Simulator, method: str, path: str, status: int, message: str
) -> None:
    with pytest.raises(ApiException) as raised:
        call(service, method, path)
    assert raised.value.status_code == status
    assert raised.value.message == message
    assert "watsonx-auth-proxy" in raised.value.http_response.headers["proxy-status"]
    assert simulator.received() == []
