//! IAM's refusals: its codes, its messages, and the context that it tells with them.

use bytes::Bytes;
use http::{Request, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::reading::only_header;
use crate::{
    answer::{self, Answer},
    random_alphanumeric,
};

pub(super) fn missing(request: &Request<Bytes>, name: &str) -> Box<Answer> {
    failure(
        request,
        "BXNIM0109E",
        "Property missing or empty.",
        Some(&format!("Property '{name}' either missing or empty.")),
    )
}

pub(super) fn invalid(request: &Request<Bytes>, name: &str) -> Box<Answer> {
    failure(
        request,
        "BXNIM0106E",
        "Property has an invalid value.",
        Some(&format!("Validation of property '{name}' failed.")),
    )
}

pub(super) fn failure(
    request: &Request<Bytes>,
    code: &str,
    message: &str,
    details: Option<&str>,
) -> Box<Answer> {
    let mut body = json!({ "errorCode": code, "errorMessage": message });
    if let Some(details) = details {
        body["errorDetails"] = json!(details);
    }
    body["context"] = context(request);
    Box::new(answer::json(StatusCode::BAD_REQUEST, &body))
}

/// What the web framework under IAM answers by itself.
pub(super) fn web_error(request: &Request<Bytes>, status: StatusCode) -> Box<Answer> {
    let body = json!({
        "errorCode": "BXNIM0060E",
        "errorMessage":
            "Web application exception 'javax.ws.rs.ClientErrorException' during request processing.",
        "errorDetails": format!("HTTP {status}"),
        "context": context(request),
    });
    Box::new(answer::json(status, &body))
}

/// 429 in IAM's form; its code is not known, so there is none.
pub(in super::super) fn rate_limited(request: &Request<Bytes>, message: &str) -> Answer {
    answer::json(
        StatusCode::TOO_MANY_REQUESTS,
        &json!({ "errorMessage": message, "context": context(request) }),
    )
}

/// What IAM tells about a request that it refused.
fn context(request: &Request<Bytes>) -> Value {
    let now = Timestamp::now().strftime("%d.%m.%Y %H:%M:%S:%3f UTC");
    let user_agent = only_header(request.headers(), header::USER_AGENT.as_str()).unwrap_or("");
    json!({
        "requestId": format!("c2lt-{}", random_alphanumeric(32).to_ascii_lowercase()),
        "requestType": "incoming.Identity_Token",
        "userAgent": user_agent,
        "url": "https://iam.cloud.ibm.com",
        "instanceId": "iamid-simulator",
        "threadId": "5eed",
        "host": "iamid-simulator",
        "startTime": now.to_string(),
        "endTime": now.to_string(),
        "elapsedTime": "0",
        "locale": "en_US",
        "clusterName": "iam-id-simulator",
    })
}
