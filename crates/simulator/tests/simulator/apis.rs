//! The APIs behind a login: who is let in, and what watsonx answers.

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::client::*;

#[tokio::test]
async fn each_family_of_apis_takes_its_own_schemes() {
    let simulator = start();
    let (user, key, password) = (
        simulator.username(),
        simulator.api_key(),
        simulator.password(),
    );
    let token = token(&simulator).await;
    let cases = [
        (bearer(&token), [200, 200, 200]),
        (format!("bearer {token}"), [200, 200, 200]),
        (encoded("ZenApiKey", &user, &key), [200, 400, 401]),
        (encoded("ZenApiKey", &user, &password), [200, 400, 401]),
        (encoded("ZenApiKey", &user, "wrong"), [401, 400, 401]),
        (encoded("Basic", &user, &password), [401, 401, 200]),
        (
            encoded("Basic", &format!("ibmlhapikey_{user}"), &key),
            [401, 401, 200],
        ),
        (
            encoded("Basic", &format!("ibmlhtoken_{user}"), &token),
            [401, 401, 200],
        ),
        (encoded("Basic", &user, "wrong"), [401, 401, 401]),
        (bearer("a.b.c"), [401, 401, 401]),
        (token.clone(), [401, 401, 401]),
    ];
    for (case, (authorization, statuses)) in cases.into_iter().enumerate() {
        let platform = simulator.platform_url();
        let project = format!("{platform}/v2/projects/{PROJECT}");
        let mut statement = with_body(post(platform + "/v1/statement"), "select 1");
        statement.headers_mut().insert(
            header::AUTHORIZATION,
            HeaderValue::try_from(&authorization).unwrap(),
        );
        let seen = [
            generate_as(&simulator, &authorization).await.status,
            get_as(&simulator, &authorization, project).await.status,
            send(&simulator, statement).await.status,
        ];
        assert_eq!(seen.map(|status| status.as_u16()), statuses, "case {case}");
    }
}

#[tokio::test]
async fn two_authorization_headers_are_one_too_many() {
    let simulator = start();
    let token = bearer(&token(&simulator).await);
    let request =
        get(simulator.platform_url() + "/ml/v1/foundation_model_specs?version=2026-01-15")
            .header(header::AUTHORIZATION, &token)
            .header(header::AUTHORIZATION, &token);
    let reply = send(&simulator, without_body(request)).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn watsonx_wants_version_project_and_a_known_model() {
    let simulator = start();
    let token = bearer(&token(&simulator).await);
    let whole = json!({ "model_id": MODEL, "project_id": PROJECT, "input": "hello" });
    let without = |field: &str| {
        let mut body = whole.clone();
        body.as_object_mut().unwrap().remove(field);
        body
    };
    let mut unknown = whole.clone();
    unknown["model_id"] = json!("ibm/unknown");
    let plain = "/ml/v1/text/generation";
    for (target, body, status, code) in [
        (plain, &whole, 400, "invalid_version_date_pattern"),
        (
            &format!("{plain}?version=1"),
            &whole,
            400,
            "invalid_version_date_pattern",
        ),
        (
            GENERATION,
            &without("project_id"),
            400,
            "invalid_request_entity",
        ),
        (GENERATION, &without("input"), 400, "invalid_request_entity"),
        (
            GENERATION,
            &without("model_id"),
            400,
            "invalid_request_entity",
        ),
        (GENERATION, &json!("text"), 400, "invalid_request_entity"),
        (GENERATION, &unknown, 404, "model_not_supported"),
        (
            "/ml/v4/unknown?version=2026-01-15",
            &whole,
            404,
            "not_found",
        ),
    ] {
        let mut request = post_json(simulator.platform_url() + target, body);
        request.headers_mut().insert(
            header::AUTHORIZATION,
            HeaderValue::try_from(&token).unwrap(),
        );
        let reply = send(&simulator, request).await;
        assert_eq!(reply.status, status, "{target} {body}");
        assert_eq!(reply.code(), code, "{target} {body}");
    }
}

async fn call(path: &str, body: &Value) -> Reply {
    let simulator = start();
    simulator.set_frame_interval(std::time::Duration::from_millis(1));
    let token = bearer(&token(&simulator).await);
    let mut request = post_json(simulator.platform_url() + path, body);
    request
        .headers_mut()
        .insert(header::AUTHORIZATION, HeaderValue::try_from(token).unwrap());
    let reply = send(&simulator, request).await;
    assert_eq!(reply.status, StatusCode::OK, "{path}");
    reply
}

async fn watsonx(operation: &str, mut body: Value) -> Reply {
    body["project_id"] = json!(PROJECT);
    body["model_id"] = json!(MODEL);
    call(
        &format!("/ml/v1/text/{operation}?version=2026-01-15"),
        &body,
    )
    .await
}

/// The data of each frame after checking its number and event.
fn frames(stream: &str) -> Vec<Value> {
    let mut frames: Vec<&str> = stream.split_terminator("\n\n").collect();
    assert_eq!(frames.pop(), Some("event: close\ndata: {}"));
    (1..)
        .zip(frames)
        .map(|(id, frame)| {
            let data = frame.strip_prefix(&format!("id: {id}\nevent: message\ndata: "));
            serde_json::from_str(data.unwrap()).unwrap()
        })
        .collect()
}

#[tokio::test]
async fn generations_echo_the_prompt() {
    let result = watsonx("generation", json!({ "input": "to be or not" }))
        .await
        .json();
    assert_eq!(
        result["results"][0]["generated_text"],
        "You said: to be or not"
    );
    assert_eq!(result["results"][0]["stop_reason"], "eos_token");
    assert_eq!(result["results"][0]["input_token_count"], 4);

    let reply = watsonx("generation_stream", json!({ "input": "to be or not" })).await;
    assert_eq!(reply.headers[header::CONTENT_TYPE], "text/event-stream");
    let frames = frames(reply.text());
    let text: String = frames
        .iter()
        .map(|frame| frame["results"][0]["generated_text"].as_str().unwrap())
        .collect();
    assert_eq!(text, "You said: to be or not");
    let stops: Vec<&str> = frames
        .iter()
        .map(|frame| frame["results"][0]["stop_reason"].as_str().unwrap())
        .collect();
    assert_eq!(stops.iter().filter(|stop| **stop == "eos_token").count(), 1);
    assert_eq!(stops.last(), Some(&"eos_token"));
}

#[tokio::test]
async fn chats_echo_the_last_user_message() {
    let messages = json!([
        { "role": "system", "content": "be brief" },
        { "role": "user", "content": [{ "type": "text", "text": "good day" }] },
    ]);
    let chat = watsonx("chat", json!({ "messages": messages }))
        .await
        .json();
    assert_eq!(
        chat["choices"][0]["message"]["content"],
        "You said: good day"
    );
    assert_eq!(chat["usage"]["total_tokens"], 6);

    let reply = watsonx("chat_stream", json!({ "messages": messages })).await;
    let frames = frames(reply.text());
    let text: String = frames
        .iter()
        .filter_map(|frame| frame["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "You said: good day");
    assert_eq!(frames.last().unwrap()["usage"], chat["usage"]);
    assert_eq!(frames[0]["id"], chat["id"]);
}

#[tokio::test]
async fn embeddings_and_tokens_depend_on_the_input_alone() {
    let reply = watsonx("embeddings", json!({ "inputs": ["a", "b", "a"] })).await;
    let results = &reply.json()["results"];
    assert_eq!(results[0]["embedding"].as_array().unwrap().len(), 8);
    assert_eq!(results[0], results[2]);
    assert_ne!(results[0], results[1]);

    let parameters = json!({ "return_tokens": true });
    let body = json!({ "input": "to be", "parameters": parameters });
    let result = watsonx("tokenization", body).await.json();
    assert_eq!(
        result["result"],
        json!({ "token_count": 2, "tokens": ["to", " be"] })
    );
}

#[tokio::test]
async fn the_gateway_speaks_openai() {
    let path = "/ml/gateway/v1/chat/completions";
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let body = json!({ "model": MODEL, "messages": messages });
    let whole = call(path, &body).await.json();
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["choices"][0]["message"]["content"], "You said: hi");

    let options = json!({ "include_usage": true });
    let body =
        json!({ "model": MODEL, "messages": messages, "stream": true, "stream_options": options });
    let reply = call(path, &body).await;
    let mut data: Vec<&str> = reply
        .text()
        .split_terminator("\n\n")
        .map(|frame| frame.strip_prefix("data: ").unwrap())
        .collect();
    assert_eq!(data.pop(), Some("[DONE]"));
    let chunks: Vec<Value> = data
        .iter()
        .map(|chunk| serde_json::from_str(chunk).unwrap())
        .collect();
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "You said: hi");
    assert_eq!(chunks.last().unwrap()["usage"], whole["usage"]);
}

#[tokio::test]
async fn models_are_listed_by_pages_whose_links_lead_inside_the_cluster() {
    let simulator = start();
    let token = bearer(&token(&simulator).await);
    let specs = simulator.platform_url() + "/ml/v1/foundation_model_specs?version=2026-01-15";
    let all = get_as(&simulator, &token, specs.clone()).await.json();
    assert_eq!(all["total_count"], 4);
    assert!(all.get("next").is_none());
    let page = get_as(
        &simulator,
        &token,
        specs + "&limit=3&filters=function_text_chat:and",
    )
    .await;
    let page = page.json();
    assert_eq!(page["resources"].as_array().unwrap().len(), 3);
    assert!(page.get("next").is_none());
    let gateway = simulator.platform_url() + "/ml/gateway/v1/models";
    let models = get_as(&simulator, &token, gateway).await.json();
    assert_eq!(models["data"][0]["id"], MODEL);
    let specs =
        simulator.platform_url() + "/ml/v1/foundation_model_specs?version=2026-01-15&limit=1";
    let next = get_as(&simulator, &token, specs).await.json();
    let href = next["next"]["href"].as_str().unwrap();
    assert!(href.starts_with("https://wx-inference-proxy-upstream/ml/v1/"));
    assert!(href.ends_with("&limit=1&start=1"));
}

#[tokio::test]
async fn the_version_is_open_and_projects_are_not() {
    let simulator = start();
    let platform = simulator.platform_url();
    let version = get(format!("{platform}/ml/wml_services/v2/version"));
    let version = send(&simulator, without_body(version)).await.json();
    assert!(version["version"].as_str().unwrap().starts_with("5.2."));

    let project = format!("{platform}/v2/projects/{PROJECT}");
    let reply = send(&simulator, without_body(get(&project))).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    let token = bearer(&token(&simulator).await);
    let project = get_as(&simulator, &token, project).await.json();
    assert_eq!(project["metadata"]["guid"], PROJECT);
    assert_eq!(project["entity"]["storage"]["type"], "assetfiles");
    let space = format!("{platform}/v2/spaces/{PROJECT}");
    let space = get_as(&simulator, &token, space).await.json();
    assert_eq!(space["metadata"]["id"], PROJECT);
    let unknown = get_as(
        &simulator,
        &token,
        format!("{platform}/v2/projects/unknown"),
    )
    .await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn watsonx_data_wants_the_token_twice() {
    let simulator = start();
    let token = bearer(&token(&simulator).await);
    let instance = simulator.platform_url() + "/lakehouse/api/v3/instance";
    let request = || {
        get(&instance)
            .header("LhInstanceId", "1700000000000000")
            .header(header::AUTHORIZATION, &token)
    };
    let once = send(&simulator, without_body(request())).await;
    assert_eq!(once.code(), "authentication_token_not_valid");
    let twice = send(
        &simulator,
        without_body(request().header("IamToken", &token)),
    )
    .await;
    assert_eq!(twice.json()["instance_id"], "1700000000000000");
}
