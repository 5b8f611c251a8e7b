//! The platform: which endpoint a request is for, on the path as the platform's nginx reads it.

mod admission;
mod gateway;
mod lakehouse;
pub(crate) mod login;
mod models;
mod user;
mod watsonx;
mod workspace;

pub(crate) use admission::refusal;

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::json;

use crate::{
    answer::{self, Answer},
    state::State,
};
use login::Endpoint;

/// Answers any request but a login.
pub(crate) fn answer(state: &mut State, request: &Request<Bytes>, segments: &[&str]) -> Answer {
    match segments {
        ["ml", "wml_services", "v2", "version"] => wml_version(),
        ["ml", "gateway", "v1", rest @ ..] => gateway::answer(state, request, rest),
        ["ml", "v1" | "v4", ..] => watsonx::answer(state, request, &segments[1..]),
        ["lakehouse", "api", "v2" | "v3", rest @ ..] => lakehouse::answer(state, request, rest),
        ["v1", "statement"] => lakehouse::statement(state, request),
        ["v2", kind @ ("projects" | "spaces"), id] => workspace::answer(state, request, kind, id),
        ["usermgmt", "v1", "user", endpoint]
        | ["api", "v1", "usermgmt", "v1", "user", endpoint] => {
            user::answer(state, request, endpoint)
        }
        [] => answer::html(
            StatusCode::OK,
            "<html><head><title>IBM watsonx</title></head><body>IBM watsonx</body></html>\n",
        ),
        _ => answer::not_found(),
    }
}

/// Whether a path is one of the APIs that want a token: all but the logins and the two that are open to everyone.
pub(crate) fn asks_for_a_token(segments: &[&str]) -> bool {
    let is_open = matches!(
        segments,
        [] | ["simulator", ..] | ["ml", "wml_services", "v2", "version"]
    );
    !is_open && Endpoint::at(segments, &[]).is_none()
}

/// Open to everyone: `ibm-watsonx-ai` asks for it before it has a token.
fn wml_version() -> Answer {
    answer::json(
        StatusCode::OK,
        &json!({ "version": "5.2.2", "build": "20260115" }),
    )
}
