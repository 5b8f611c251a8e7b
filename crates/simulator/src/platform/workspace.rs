//! Projects and deployment spaces, as far as `ibm-watsonx-ai` reads them when it sets its default.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::json;

use super::admission::{Family, admit};
use crate::{
    answer::{self, Answer, json, watsonx_error},
    state::State,
};

/// Answers `/v2/projects/<id>` and `/v2/spaces/<id>`. Every UUID is the id of one; nothing else is.
pub(crate) fn answer(state: &State, request: &Request<Bytes>, kind: &str, id: &str) -> Answer {
    if let Err(refusal) = admit(state, request.headers(), Family::WatsonData) {
        return *refusal;
    }
    if request.method() != Method::GET {
        return answer::method_not_allowed("GET");
    }
    if !is_uuid(id) {
        return watsonx_error(
            StatusCode::NOT_FOUND,
            "not_found",
            &format!("The {} was not found", kind.trim_end_matches('s')),
        );
    }
    let href = format!("/v2/{kind}/{id}");
    let body = if kind == "projects" {
        json!({
            "metadata": {
                "guid": id,
                "url": href,
                "created_at": CREATED_AT,
                "updated_at": CREATED_AT,
            },
            "entity": {
                "name": "Simulated project",
                "description": "",
                "generator": "simulator",
                "public": false,
                "scope": { "bss_account_id": "999" },
                "storage": { "type": "assetfiles", "guid": id, "properties": {} },
                "type": "wx",
            },
        })
    } else {
        json!({
            "metadata": {
                "id": id,
                "url": href,
                "created_at": CREATED_AT,
                "updated_at": CREATED_AT,
            },
            "entity": {
                "name": "Simulated space",
                "description": "",
                "scope": { "bss_account_id": "999" },
                "status": { "state": "active" },
                "storage": { "type": "assetfiles" },
            },
        })
    };
    json(StatusCode::OK, &body)
}

fn is_uuid(id: &str) -> bool {
    id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

const CREATED_AT: &str = "2026-01-15T08:00:00.000Z";
