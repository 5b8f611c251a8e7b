//! watsonx.data, for what is special about it: the token in a second header, Basic users, absolute links in bodies.

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use serde_json::json;

use super::admission::{Admitted, Family, admit, check_token};
use crate::{
    answer::{self, Answer, json, watsonx_error},
    sha256_hex,
    state::State,
};

/// Answers `/lakehouse/api/v2|v3/<rest>`: only `GET instance`.
pub(crate) fn answer(state: &State, request: &Request<Bytes>, rest: &[&str]) -> Answer {
    let admitted = match admit(state, request.headers(), Family::Lakehouse) {
        Ok(admitted) => admitted,
        Err(refusal) => return *refusal,
    };
    if rest != ["instance"] {
        return answer::not_found();
    }
    if request.method() != Method::GET {
        return answer::method_not_allowed("GET");
    }
    if let Admitted::Token(_) = admitted
        && let Err(refusal) = check_iam_token(state, request)
    {
        return *refusal;
    }
    let Some(instance) = request.headers().get("lhinstanceid") else {
        return watsonx_error(
            StatusCode::BAD_REQUEST,
            "missing_header",
            "Missing header LhInstanceId",
        );
    };
    json(
        StatusCode::OK,
        &json!({
            "instance_id": String::from_utf8_lossy(instance.as_bytes()),
            "status": "active",
            "version": "2.3.0",
        }),
    )
}

/// `POST /v1/statement` of a Presto engine; its `nextUri` is absolute, and so leads past any proxy.
pub(crate) fn statement(state: &State, request: &Request<Bytes>) -> Answer {
    if let Err(refusal) = admit(state, request.headers(), Family::Lakehouse) {
        return *refusal;
    }
    if request.method() != Method::POST {
        return answer::method_not_allowed("POST");
    }
    let id = &sha256_hex(request.body())[..24];
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("localhost");
    json(
        StatusCode::OK,
        &json!({
            "id": id,
            "infoUri": format!("https://{host}/ui/query.html?{id}"),
            "nextUri": format!("https://{host}/v1/statement/queued/{id}/1"),
            "stats": { "state": "QUEUED" },
        }),
    )
}

/// The API wants the token once more, as `IamToken: Bearer <token>`.
fn check_iam_token(state: &State, request: &Request<Bytes>) -> Result<(), Box<Answer>> {
    let token = request
        .headers()
        .get("iamtoken")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    check_token(state, token).map(drop)
}
