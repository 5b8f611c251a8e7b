//! watsonx.ai: models, text generation, chat, embeddings and tokenization under `/ml/v1`.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::{
    admission::{Family, admit},
    models::{
        CREATED, CREATED_AT, MODELS, Model, completion_id, echo, last_user_message, tokens, usage,
    },
};
use crate::{
    answer::{self, Answer, events, json, watsonx_error},
    sha256_hex,
    state::State,
    target::{is_date, query_value},
};

/// Answers `/ml/<segments>`, where the first segment is `v1` or `v4`.
pub(crate) fn answer(state: &State, request: &Request<Bytes>, segments: &[&str]) -> Answer {
    match admit(state, request.headers(), Family::MachineLearning)
        .and_then(|_| require_version(request))
        .and_then(|()| route(state, request, segments))
    {
        Ok(answer) => answer,
        Err(refusal) => *refusal,
    }
}

type Outcome = Result<Answer, Box<Answer>>;

fn route(state: &State, request: &Request<Bytes>, segments: &[&str]) -> Outcome {
    match segments {
        ["v1", "foundation_model_specs"] => model_specs(request),
        ["v1", "text", operation] => text(state, request, operation),
        _ => Err(failure(
            StatusCode::NOT_FOUND,
            "not_found",
            "The requested resource could not be found",
        )),
    }
}

/// `version=YYYY-MM-DD` is mandatory and decides over the shape of the answer on a real platform.
fn require_version(request: &Request<Bytes>) -> Result<(), Box<Answer>> {
    let version = query_value(request.uri(), "version").unwrap_or_default();
    if is_date(&version) {
        return Ok(());
    }
    Err(failure(
        StatusCode::BAD_REQUEST,
        "invalid_version_date_pattern",
        "The version date is missing or invalid, its format must be YYYY-MM-DD",
    ))
}

/// One page of models; the link to the next one names a host inside the cluster, as it does in reality.
fn model_specs(request: &Request<Bytes>) -> Outcome {
    if request.method() != Method::GET {
        return Err(Box::new(answer::method_not_allowed("GET")));
    }
    let filters = query_value(request.uri(), "filters").unwrap_or_default();
    let number =
        |name| query_value(request.uri(), name).and_then(|value| value.parse::<usize>().ok());
    let limit = number("limit").unwrap_or(100);
    let start = number("start").unwrap_or(0);
    let models: Vec<Model> = MODELS
        .into_iter()
        .filter(|model| model.passes(&filters))
        .collect();
    let resources: Vec<Value> = models
        .iter()
        .skip(start)
        .take(limit)
        .map(|model| model.spec())
        .collect();
    let link = |start: usize| {
        json!({ "href": format!(
            "https://wx-inference-proxy-upstream/ml/v1/foundation_model_specs?version={}&limit={limit}&start={start}",
            query_value(request.uri(), "version").unwrap_or_default(),
        )})
    };
    let mut body = json!({
        "total_count": models.len(),
        "limit": limit,
        "first": link(0),
        "resources": resources,
    });
    let next = start.saturating_add(limit);
    if next < models.len() {
        body["next"] = link(next);
    }
    Ok(json(StatusCode::OK, &body))
}

fn text(state: &State, request: &Request<Bytes>, operation: &str) -> Outcome {
    if request.method() != Method::POST {
        return Err(Box::new(answer::method_not_allowed("POST")));
    }
    let body: Value = serde_json::from_slice(request.body())
        .map_err(|_| invalid_entity("Failed to parse the request body as JSON"))?;
    let model = model(&body)?;
    if !["project_id", "space_id", "wml_instance_crn"]
        .iter()
        .any(|field| body[field].as_str().is_some_and(|id| !id.is_empty()))
    {
        return Err(invalid_entity(
            "Missing either space_id or project_id or wml_instance_crn",
        ));
    }
    let pace = state.options.frame_interval;
    match operation {
        "generation" => Ok(json(StatusCode::OK, &generation(model, input(&body)?))),
        "generation_stream" => Ok(events(generation_stream(model, input(&body)?), pace)),
        "chat" => Ok(json(StatusCode::OK, &chat(model, &message(&body)?))),
        "chat_stream" => Ok(events(chat_stream(model, &message(&body)?), pace)),
        "embeddings" => Ok(json(StatusCode::OK, &embeddings(model, &body)?)),
        "tokenization" => Ok(json(StatusCode::OK, &tokenization(model, &body)?)),
        _ => Err(failure(
            StatusCode::NOT_FOUND,
            "not_found",
            "The requested resource could not be found",
        )),
    }
}

fn generation(model: Model, input: &str) -> Value {
    let text = echo(input);
    let count = tokens(&text).len();
    let mut body = result(model, &text, count, "eos_token");
    body["results"][0]["input_token_count"] = json!(tokens(input).len());
    body
}

fn generation_stream(model: Model, input: &str) -> Vec<String> {
    let text = echo(input);
    let tokens_out = tokens(&text);
    let mut first = result(model, "", 0, "not_finished");
    first["results"][0]["input_token_count"] = json!(tokens(input).len());
    let last = tokens_out.len();
    let rest = (1..).zip(&tokens_out).map(|(count, token)| {
        let stop_reason = if count == last {
            "eos_token"
        } else {
            "not_finished"
        };
        result(model, token, count, stop_reason)
    });
    frames(std::iter::once(first).chain(rest))
}

fn result(model: Model, text: &str, count: usize, stop_reason: &str) -> Value {
    json!({
        "model_id": model.id,
        "model_version": "1.1.0",
        "created_at": CREATED_AT,
        "results": [{
            "generated_text": text,
            "generated_token_count": count,
            "input_token_count": 0,
            "stop_reason": stop_reason,
        }],
    })
}

fn chat(model: Model, prompt: &str) -> Value {
    let text = echo(prompt);
    let mut body = completion(model, prompt, "chat.completion");
    body["choices"] = json!([{
        "index": 0,
        "message": { "role": "assistant", "content": text },
        "finish_reason": "stop",
    }]);
    body["usage"] = usage(prompt, &text);
    body
}

/// A frame with the role, one for each token, the finish reason, the usage.
fn chat_stream(model: Model, prompt: &str) -> Vec<String> {
    let text = echo(prompt);
    let chunk = |delta: Value, finish_reason: Value| {
        let mut body = completion(model, prompt, "chat.completion.chunk");
        body["choices"] = json!([{ "index": 0, "finish_reason": finish_reason, "delta": delta }]);
        body
    };
    let mut chunks = vec![chunk(
        json!({ "role": "assistant", "content": "" }),
        Value::Null,
    )];
    for token in tokens(&text) {
        chunks.push(chunk(json!({ "content": token }), Value::Null));
    }
    chunks.push(chunk(json!({ "content": "" }), json!("stop")));
    let mut last = completion(model, prompt, "chat.completion.chunk");
    last["choices"] = json!([]);
    last["usage"] = usage(prompt, &text);
    chunks.push(last);
    frames(chunks)
}

fn completion(model: Model, prompt: &str, object: &str) -> Value {
    json!({
        "id": completion_id(prompt),
        "object": object,
        "model_id": model.id,
        "model": model.id,
        "created": CREATED,
        "model_version": "1.1.0",
        "created_at": CREATED_AT,
    })
}

fn embeddings(model: Model, body: &Value) -> Result<Value, Box<Answer>> {
    let inputs: Vec<&str> = body["inputs"]
        .as_array()
        .and_then(|inputs| inputs.iter().map(Value::as_str).collect())
        .ok_or_else(|| invalid_entity("Missing json field inputs in request entity"))?;
    let results: Vec<Value> = inputs
        .iter()
        .map(|input| {
            let digest = sha256_hex(input.as_bytes());
            let vector: Vec<f64> = digest
                .bytes()
                .take(8)
                .map(|digit| f64::from(digit) / 128.0)
                .collect();
            json!({ "embedding": vector })
        })
        .collect();
    Ok(json!({
        "model_id": model.id,
        "created_at": CREATED_AT,
        "results": results,
        "input_token_count": inputs.iter().map(|input| tokens(input).len()).sum::<usize>(),
    }))
}

fn tokenization(model: Model, body: &Value) -> Result<Value, Box<Answer>> {
    let tokens = tokens(input(body)?);
    let mut result = json!({ "token_count": tokens.len() });
    if body["parameters"]["return_tokens"] == true {
        result["tokens"] = json!(tokens);
    }
    Ok(json!({ "model_id": model.id, "result": result }))
}

/// IBM's frames: numbered from 1, and a `close` event at the end.
fn frames(messages: impl IntoIterator<Item = Value>) -> Vec<String> {
    let mut frames: Vec<String> = (1..)
        .zip(messages)
        .map(|(id, message): (u32, Value)| format!("id: {id}\nevent: message\ndata: {message}\n\n"))
        .collect();
    frames.push("event: close\ndata: {}\n\n".to_owned());
    frames
}

fn model(body: &Value) -> Result<Model, Box<Answer>> {
    let id = body["model_id"]
        .as_str()
        .ok_or_else(|| invalid_entity("Missing json field model_id in request entity"))?;
    Model::find(id).ok_or_else(|| {
        failure(
            StatusCode::NOT_FOUND,
            "model_not_supported",
            &format!("Model '{id}' is not supported"),
        )
    })
}

fn input(body: &Value) -> Result<&str, Box<Answer>> {
    body["input"]
        .as_str()
        .ok_or_else(|| invalid_entity("Missing json field input in request entity"))
}

fn message(body: &Value) -> Result<String, Box<Answer>> {
    last_user_message(&body["messages"])
        .ok_or_else(|| invalid_entity("Missing json field messages in request entity"))
}

fn invalid_entity(message: &str) -> Box<Answer> {
    failure(StatusCode::BAD_REQUEST, "invalid_request_entity", message)
}

fn failure(status: StatusCode, code: &str, message: &str) -> Box<Answer> {
    Box::new(watsonx_error(status, code, message))
}
