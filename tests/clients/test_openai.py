"""The OpenAI client on the platform's model gateway."""

from collections.abc import Iterator

import httpx
import openai
import pytest

from rig import Proxy, Simulator

MODEL = "meta-llama/llama-3-3-70b-instruct"
MESSAGES = [{"role": "user", "content": "count to three for me"}]


@pytest.fixture
def client(proxy: Proxy, told: list[str]) -> Iterator[openai.OpenAI]:
    def remember(response: httpx.Response) -> None:
        told.append(str(response.headers))

    with openai.OpenAI(
        base_url=f"http://127.0.0.1:{proxy.port('plain')}/ml/gateway/v1",
        api_key="x",
        timeout=20,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(event_hooks={"response": [remember]}),
    ) as client:
        yield client


def test_models_are_listed(client: openai.OpenAI, simulator: Simulator, told: list[str]) -> None:
    models = client.models.list()
    told.append(models.to_json())
    assert MODEL in [model.id for model in models]
    [request] = simulator.received()
    assert request.values("authorization") == [simulator.bearer()]


def test_chat(client: openai.OpenAI, simulator: Simulator, told: list[str]) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    told.append(answer.to_json())
    assert answer.choices[0].message.content == "You said: count to three for me"
    [request] = simulator.received()
    assert request.values("authorization") == [simulator.bearer()]


def test_streamed_chat_is_whole(client: openai.OpenAI, told: list[str]) -> None:
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    told += [chunk.to_json() for chunk in chunks]
    pieces = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert pieces == ["You", " said:", " count", " to", " three", " for", " me"]
    assert chunks[-1].usage.completion_tokens == len(pieces)


def test_first_chunk_does_not_wait_for_the_next(client: openai.OpenAI, simulator: Simulator) -> None:
    with simulator.endless_streams():
        with client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True) as chunks:
            assert next(iter(chunks)).choices[0].delta.role == "assistant"


def test_error_is_one_that_the_client_reads(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="acme/none", messages=MESSAGES)
    assert raised.value.body["message"] == "The model is unknown"


def test_error_of_the_proxy_is_one_that_the_client_reads(client: openai.OpenAI) -> None:
    elsewhere = client.with_options(base_url=str(client.base_url).replace("/ml/gateway/v1", "/nobody"))
    with pytest.raises(openai.InternalServerError) as raised:
        elsewhere.models.list()
    assert raised.value.status_code == 502
    assert raised.value.body == {
        "code": "upstream_unreachable",
        "message": "the upstream cannot be reached",
        "type": "proxy",
    }
