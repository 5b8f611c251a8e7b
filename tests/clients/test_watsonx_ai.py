"""`ibm-watsonx-ai` with a token that is worth nothing, over the TLS that it insists on."""

import ssl
from pathlib import Path

import httpx
import pytest
from ibm_watsonx_ai import APIClient, Credentials
from ibm_watsonx_ai.foundation_models import ModelInference

from rig import Proxy, Simulator

PROJECT = "12ac4cf1-252f-424b-b52d-5cdd9814987f"
PROMPT = "what is new in Armonk"
ECHO = ["You", " said:", " what", " is", " new", " in", " Armonk"]


@pytest.fixture(scope="module")
def url(proxy: Proxy) -> str:
    return f"https://localhost:{proxy.port('tls')}"


@pytest.fixture(scope="module")
def model(url: str, folder: Path, told: list[str]) -> ModelInference:
    client = APIClient(
        Credentials(url=url, token="a.b.c", version="5.2", verify=str(folder / "state" / "ca.crt"))
    )
    client.httpx_client.event_hooks["response"].append(
        lambda response: told.append(str(response.headers))
    )
    return ModelInference(
        model_id="ibm/granite-3-3-8b-instruct", api_client=client, project_id=PROJECT
    )


@pytest.fixture(autouse=True)
def only_the_attached_token_arrives(model: ModelInference, simulator: Simulator):
    """Whatever a test of this file sends, and in how many requests."""
    yield
    requests = simulator.received()
    assert requests
    for request in requests:
        assert request.values("authorization") == [simulator.bearer()], request.target


def test_generate_text(model: ModelInference, told: list[str]) -> None:
    text = model.generate_text(PROMPT)
    told.append(text)
    assert text == "".join(ECHO)


def test_chat(model: ModelInference, told: list[str]) -> None:
    answer = model.chat(messages=[{"role": "user", "content": PROMPT}])
    told.append(str(answer))
    assert answer["choices"][0]["message"]["content"] == "".join(ECHO)


def test_generate_text_stream(model: ModelInference, told: list[str]) -> None:
    pieces = list(model.generate_text_stream(PROMPT))
    told += pieces
    assert [piece for piece in pieces if piece] == ECHO


def test_chat_stream(model: ModelInference, told: list[str]) -> None:
    chunks = list(model.chat_stream(messages=[{"role": "user", "content": PROMPT}]))
    told += [str(chunk) for chunk in chunks]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices", [])]
    assert [delta["content"] for delta in deltas if delta.get("content")] == ECHO


def test_first_chunk_does_not_wait_for_the_next(model: ModelInference, simulator: Simulator) -> None:
    with simulator.endless_streams():
        chunks = model.chat_stream(messages=[{"role": "user", "content": PROMPT}])
        assert next(chunks)["choices"][0]["delta"]["role"] == "assistant"
        chunks.close()
    model.chat(messages=[{"role": "user", "content": PROMPT}])


def test_project_is_found(model: ModelInference, told: list[str]) -> None:
    details = model._client.projects.get_details(PROJECT)
    told.append(str(details))
    assert details["metadata"]["guid"] == PROJECT


def test_local_ca_is_needed(model: ModelInference, url: str, folder: Path) -> None:
    """Else the tests of this file would say nothing about `verify`."""
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(url, verify=ssl.create_default_context())
    trusted = ssl.create_default_context(cafile=folder / "state" / "ca.crt")
    assert httpx.get(f"{url}/ml/v1/foundation_model_specs?version=2025-02-01", verify=trusted).is_success
