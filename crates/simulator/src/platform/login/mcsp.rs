//! The Multi-Cloud SaaS Platform: an API key for a token, at the four addresses that IBM's clients know.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Outcome,
    reading::{Fields, media_type, require_method},
};
use crate::{
    answer::{self, Answer},
    random_alphanumeric,
    state::State,
};

/// Which address was asked, and so what it takes and answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// `/siusermgr/api/1.0/apikeys/token`.
    V1,
    /// `/api/2.0/{collection}/{id}/apikeys/token`, whose query decides what the token says.
    V2,
    /// `/api/2.0/apikeys/token`, of watsonx on AWS.
    Aws,
    /// `/api/rest/mcsp/apikeys/token`, of watsonx on AWS GovCloud.
    Gov,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    apikey: String,
    #[serde(rename = "callerExtClaim")]
    caller_ext_claim: Option<Map<String, Value>>,
}

/// Answers a request for a token.
pub(super) fn token(state: &mut State, request: &Request<Bytes>, flavour: Flavour) -> Outcome {
    require_method(request, &Method::POST, "POST")?;
    if media_type(request.headers()) != Some("application/json") {
        return Err(refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Content-Type must be application/json",
        ));
    }
    let query = request.uri().query();
    let included = match flavour {
        Flavour::V2 => Included::parse(query.unwrap_or_default())?,
        _ if query.is_none() => Included::default(),
        _ => return Err(bad_request("No query is taken")),
    };
    let Ok(sent) = serde_json::from_slice::<Sent>(request.body()) else {
        return Err(bad_request("The body is not valid"));
    };
    if sent.caller_ext_claim.is_some() && flavour != Flavour::V2 {
        return Err(bad_request("callerExtClaim is not taken"));
    }
    if flavour == Flavour::V2 && !is_in_scope(state, request.uri().path()) {
        return Err(refuse(StatusCode::NOT_FOUND, "Scope not found"));
    }
    if sent.apikey != state.options.mcsp_api_key {
        return Err(refuse(StatusCode::UNAUTHORIZED, "ApiKey is not valid"));
    }
    let now = state.now();
    let expiry = now + state.lifetime();
    let mut claims = json!({
        "iss": ISSUER,
        "sub": SUBJECT,
        "aud": ["crn:v1:aws:public:watsonx:us-east-1:sub/simulator::"],
        "jti": random_alphanumeric(32).to_ascii_lowercase(),
        "iat": now,
        "exp": expiry,
    });
    included.put_into(&mut claims);
    if let Some(claim) = sent.caller_ext_claim {
        claims["callerExt"] = Value::Object(claim);
    }
    let mut body = json!({
        "token": state.issue_signed(&claims, expiry),
        "token_type": "jwt",
        "expires_in": state.lifetime(),
    });
    if flavour == Flavour::V2 {
        body["expiration"] = json!(expiry);
    }
    Ok(body)
}

/// What the query of version 2 asks to have in the token.
#[derive(Default)]
struct Included {
    builtin_actions: bool,
    custom_actions: bool,
    roles: bool,
    prefixed_roles: bool,
}

impl Included {
    fn parse(query: &str) -> Result<Self, Box<Answer>> {
        let fields = Fields::parse(query.as_bytes());
        let names = [
            "includeBuiltinActions",
            "includeCustomActions",
            "includeRoles",
            "prefixRolesWithDefinitionScope",
        ];
        if let Some(name) = fields.unexpected(&names) {
            return Err(bad_request(&format!("{name} is not taken")));
        }
        let flag = |name, default| match fields.only(name) {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(bad_request(&format!("{name} must be true or false"))),
        };
        Ok(Self {
            builtin_actions: flag(names[0], false)?,
            custom_actions: flag(names[1], false)?,
            roles: flag(names[2], true)?,
            prefixed_roles: flag(names[3], false)?,
        })
    }

    fn put_into(&self, claims: &mut Value) {
        let mut actions = Vec::new();
        if self.builtin_actions {
            actions.push("iam.policies.read");
        }
        if self.custom_actions {
            actions.push("simulator.custom.read");
        }
        if !actions.is_empty() {
            claims["actions"] = json!(actions);
        }
        if self.roles {
            let role = if self.prefixed_roles {
                "service:Viewer"
            } else {
                "Viewer"
            };
            claims["roles"] = json!([role]);
        }
    }
}

/// Here the case of the path matters: a scope is named exactly.
fn is_in_scope(state: &State, path: &str) -> bool {
    let wanted = format!("/api/2.0/{}/apikeys/token", state.options.mcsp_scope);
    percent_decode_str(path).decode_utf8_lossy() == wanted
}

/// The platform's error form is not documented; the messages are those that users report.
pub(super) fn failure(status: StatusCode, message: &str) -> Answer {
    answer::json(
        status,
        &json!({ "statusCode": status.as_u16(), "message": message }),
    )
}

fn bad_request(message: &str) -> Box<Answer> {
    refuse(StatusCode::BAD_REQUEST, message)
}

fn refuse(status: StatusCode, message: &str) -> Box<Answer> {
    Box::new(failure(status, message))
}

const ISSUER: &str = "https://account-iam.platform.saas.ibm.com";
const SUBJECT: &str = "simulator@example.com";
