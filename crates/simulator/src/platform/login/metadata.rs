//! The metadata service of a virtual server on IBM Cloud: an identity token for the instance, then an IAM token for
//! it. The version in the query decides which of the two sets of paths is there.

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    Outcome,
    iam::{self, COMPUTE_RESOURCE, DEFAULT_SCOPE, Holder},
    reading::{Fields, media_type, only_header, require_method},
};
use crate::{
    TokenState,
    answer::{self, Answer},
    random_alphanumeric,
    state::State,
    target::{is_date, segments},
    tokens::Step,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenWanted {
    expires_in: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IamTokenWanted {
    trusted_profile: Option<ProfileWanted>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileWanted {
    id: Option<String>,
    crn: Option<String>,
    name: Option<String>,
}

/// The first step: whoever can reach the service gets a token, if the header shows that no browser was tricked.
pub(super) fn instance_token(state: &mut State, request: &Request<Bytes>) -> Outcome {
    require_method(request, &Method::PUT, "PUT")?;
    require_version(request)?;
    if only_header(request.headers(), "metadata-flavor") != Some("ibm") {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            "missing_header",
            "The header `Metadata-Flavor: ibm` is needed.",
            Some(("Metadata-Flavor", "header")),
        ));
    }
    let wanted: TokenWanted = parse(request)?;
    let lifetime = wanted.expires_in.unwrap_or(300);
    if !(5..=3600).contains(&lifetime) {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            "invalid_value",
            "The value provided for the `expires_in` field must be between 5 and 3600.",
            Some(("expires_in", "field")),
        ));
    }
    let token = state.issue_step(Step::Instance, lifetime);
    Ok(token_answer(state, &token, lifetime))
}

/// The second step: the first one's token for a token of the trusted profile, or of the instance's default one.
pub(super) fn iam_token(state: &mut State, request: &Request<Bytes>) -> Outcome {
    require_method(request, &Method::POST, "POST")?;
    require_version(request)?;
    let bearer = only_header(request.headers(), header::AUTHORIZATION.as_str())
        .and_then(|value| value.strip_prefix("Bearer "));
    let good =
        bearer.is_some_and(|token| state.judge_step(Step::Instance, token) == TokenState::Valid);
    if !good {
        return Err(refuse(
            StatusCode::UNAUTHORIZED,
            "invalid_token",
            "The identity token is missing, invalid or expired.",
            None,
        ));
    }
    if !request.body().is_empty()
        && let Some(wanted) = parse::<IamTokenWanted>(request)?.trusted_profile
    {
        let profile = &state.options.trusted_profile;
        let right = match (wanted.id, wanted.crn, wanted.name) {
            (Some(id), None, None) => id == profile.id,
            (None, Some(crn), None) => crn == profile.crn(),
            (None, None, Some(name)) => name == profile.name,
            _ => false,
        };
        if !right {
            return Err(refuse(
                StatusCode::BAD_REQUEST,
                "invalid_value",
                "The trusted profile is not linked to this instance.",
                Some(("trusted_profile", "field")),
            ));
        }
    }
    let (token, _) = iam::issue(
        state,
        Holder::Profile,
        COMPUTE_RESOURCE,
        DEFAULT_SCOPE,
        None,
    );
    let lifetime = iam::lifetime(state);
    Ok(token_answer(state, &token, lifetime))
}

/// `version` and nothing else: from 2022-03-01 on the old paths, from 2025-08-26 on the new ones.
fn require_version(request: &Request<Bytes>) -> Result<(), Box<Answer>> {
    let query = Fields::parse(request.uri().query().unwrap_or_default().as_bytes());
    let version = query.only("version").filter(|version| is_date(version));
    let is_old_path =
        segments(request.uri().path()).first().map(String::as_str) == Some("instance_identity");
    let right = version.is_some_and(|version| {
        if is_old_path {
            (FIRST_VERSION..NEW_PATHS).contains(&version)
        } else {
            version >= NEW_PATHS
        }
    });
    if right && query.unexpected(&["version"]).is_none() {
        return Ok(());
    }
    Err(refuse(
        StatusCode::BAD_REQUEST,
        "invalid_value",
        "The `version` parameter is missing, invalid, or does not have this method.",
        Some(("version", "parameter")),
    ))
}

fn parse<T: DeserializeOwned>(request: &Request<Bytes>) -> Result<T, Box<Answer>> {
    if media_type(request.headers()) != Some("application/json") {
        return Err(refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "The content type must be `application/json`.",
            Some(("Content-Type", "header")),
        ));
    }
    serde_json::from_slice(request.body()).map_err(|_| {
        refuse(
            StatusCode::BAD_REQUEST,
            "invalid_json",
            "The request body is not what this method takes.",
            None,
        )
    })
}

fn token_answer(state: &State, token: &str, lifetime: i64) -> Value {
    let date = |seconds| {
        Timestamp::from_second(seconds)
            .unwrap_or(Timestamp::MAX)
            .strftime("%Y-%m-%dT%H:%M:%S.000Z")
            .to_string()
    };
    json!({
        "access_token": token,
        "created_at": date(state.now()),
        "expires_at": date(state.now() + lifetime),
        "expires_in": lifetime,
    })
}

/// 429 in the form of the VPC APIs.
pub(super) fn rate_limited(message: &str) -> Answer {
    *refuse(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_requests",
        message,
        None,
    )
}

fn refuse(
    status: StatusCode,
    code: &str,
    message: &str,
    target: Option<(&str, &str)>,
) -> Box<Answer> {
    let mut error = json!({
        "code": code,
        "message": message,
        "more_info": "https://cloud.ibm.com/docs/vpc?topic=vpc-instance-metadata-error-codes",
    });
    if let Some((name, kind)) = target {
        error["target"] = json!({ "name": name, "type": kind });
    }
    let trace = random_alphanumeric(32).to_ascii_lowercase();
    Box::new(answer::json(
        status,
        &json!({ "errors": [error], "trace": trace }),
    ))
}

const FIRST_VERSION: &str = "2022-03-01";
const NEW_PATHS: &str = "2025-08-26";
