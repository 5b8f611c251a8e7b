//! The model gateway: OpenAI's chat API under `/ml/gateway/v1`.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::{
    admission::{Family, admit},
    models::{CREATED, MODELS, Model, completion_id, echo, last_user_message, tokens, usage},
};
use crate::{
    answer::{self, Answer, events, json},
    random_alphanumeric, sha256_hex,
    state::State,
};

/// Answers `/ml/gateway/v1/<rest>`.
pub(crate) fn answer(state: &State, request: &Request<Bytes>, rest: &[&str]) -> Answer {
    if let Err(refusal) = admit(state, request.headers(), Family::MachineLearning) {
        return *refusal;
    }
    match (request.method(), rest) {
        (&Method::GET, ["models"]) => models(),
        (&Method::POST, ["chat", "completions"]) => chat_completions(state, request),
        (_, ["models"]) => answer::method_not_allowed("GET"),
        (_, ["chat", "completions"]) => answer::method_not_allowed("POST"),
        _ => failure(StatusCode::NOT_FOUND, "not_found", "The path is unknown"),
    }
}

fn models() -> Answer {
    let data: Vec<Value> = MODELS
        .iter()
        .map(|model| {
            json!({
                "id": model.id,
                "uuid": sha256_hex(model.id.as_bytes())[..32],
                "object": "model",
                "created": CREATED,
                "owned_by": "watsonx",
            })
        })
        .collect();
    json(StatusCode::OK, &json!({ "object": "list", "data": data }))
}

fn chat_completions(state: &State, request: &Request<Bytes>) -> Answer {
    let Ok(body) = serde_json::from_slice::<Value>(request.body()) else {
        return failure(
            StatusCode::BAD_REQUEST,
            "bad_request",
            "The body is not valid JSON",
        );
    };
    let Some(model) = body["model"].as_str() else {
        return failure(StatusCode::BAD_REQUEST, "bad_request", "model is missing");
    };
    let Some(model) = Model::find(model) else {
        return failure(
            StatusCode::NOT_FOUND,
            "model_not_found",
            "The model is unknown",
        );
    };
    let Some(prompt) = last_user_message(&body["messages"]) else {
        return failure(
            StatusCode::BAD_REQUEST,
            "bad_request",
            "messages are missing",
        );
    };
    let text = echo(&prompt);
    if body["stream"] == true {
        let with_usage = body["stream_options"]["include_usage"] == true;
        let frames = chunks(model, &prompt, &text, with_usage);
        return events(frames, state.options.frame_interval);
    }
    let mut answer = completion(model, &prompt, "chat.completion");
    answer["choices"] = json!([{
        "index": 0,
        "message": { "role": "assistant", "content": text },
        "logprobs": null,
        "finish_reason": "stop",
    }]);
    answer["usage"] = usage(&prompt, &text);
    json(StatusCode::OK, &answer)
}

/// OpenAI's frames: the role, each token, the finish reason, the usage where asked for, `[DONE]`.
fn chunks(model: Model, prompt: &str, text: &str, with_usage: bool) -> Vec<String> {
    let chunk = |delta: Value, finish_reason: Value| {
        let mut chunk = completion(model, prompt, "chat.completion.chunk");
        chunk["choices"] = json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason }]);
        format!("data: {chunk}\n\n")
    };
    let mut frames = vec![chunk(
        json!({ "role": "assistant", "content": "" }),
        Value::Null,
    )];
    for token in tokens(text) {
        frames.push(chunk(json!({ "content": token }), Value::Null));
    }
    frames.push(chunk(json!({}), json!("stop")));
    if with_usage {
        let mut last = completion(model, prompt, "chat.completion.chunk");
        last["choices"] = json!([]);
        last["usage"] = usage(prompt, text);
        frames.push(format!("data: {last}\n\n"));
    }
    frames.push("data: [DONE]\n\n".to_owned());
    frames
}

fn completion(model: Model, prompt: &str, object: &str) -> Value {
    json!({
        "id": completion_id(prompt),
        "object": object,
        "created": CREATED,
        "model": model.id,
    })
}

/// The gateway's own error form.
fn failure(status: StatusCode, code: &str, message: &str) -> Answer {
    json(
        status,
        &json!({ "error": {
            "code": code,
            "message": message,
            "request_id": random_alphanumeric(32).to_ascii_lowercase(),
        }}),
    )
}
