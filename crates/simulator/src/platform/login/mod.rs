//! The endpoints that hand out tokens: which one a request is for, and what every one of them does alike.

mod iam;
mod mcsp;
mod metadata;
mod reading;
mod software_hub;

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::{
    answer::{self, Answer, zen_error},
    state::{Garbage, Logins, State, Tally},
};
use iam::GrantType;
use mcsp::Flavour;

/// One of the login endpoints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Authorize,
    IdentityToken,
    ValidateAuth,
    Signin,
    Iam(GrantType),
    Mcsp(Flavour),
    InstanceToken,
    InstanceIamToken,
}

impl Endpoint {
    /// IAM tells its grants apart by the body; all others are told apart by the path.
    pub(crate) fn at(segments: &[&str], body: &[u8]) -> Option<Self> {
        match segments {
            ["icp4d-api", "v1", "authorize"] => Some(Self::Authorize),
            ["idprovider", "v1", "auth", "identitytoken"] => Some(Self::IdentityToken),
            ["v1", "preauth", "validateauth"] => Some(Self::ValidateAuth),
            ["v1", "preauth", "signin"] => Some(Self::Signin),
            ["identity", "token"] => Some(Self::Iam(GrantType::of(body))),
            ["siusermgr", "api", "1.0", "apikeys", "token"] => Some(Self::Mcsp(Flavour::V1)),
            ["api", "2.0", _, _, "apikeys", "token"] => Some(Self::Mcsp(Flavour::V2)),
            ["api", "2.0", "apikeys", "token"] => Some(Self::Mcsp(Flavour::Aws)),
            ["api", "rest", "mcsp", "apikeys", "token"] => Some(Self::Mcsp(Flavour::Gov)),
            ["instance_identity" | "identity", "v1", "token"] => Some(Self::InstanceToken),
            ["instance_identity", "v1", "iam_token"] | ["identity", "v1", "iam_tokens"] => {
                Some(Self::InstanceIamToken)
            }
            _ => None,
        }
    }

    pub(crate) fn tally(self, logins: &mut Logins) -> &mut Tally {
        match self {
            Self::Authorize => &mut logins.authorize,
            Self::IdentityToken => &mut logins.identity_token,
            Self::ValidateAuth => &mut logins.validate_auth,
            Self::Signin => &mut logins.signin,
            Self::Iam(GrantType::ApiKey) => &mut logins.iam_api_key,
            Self::Iam(GrantType::Assume) => &mut logins.iam_assume,
            Self::Iam(GrantType::ComputeResource) => &mut logins.iam_compute_resource,
            Self::Iam(GrantType::RefreshToken) => &mut logins.iam_refresh_token,
            Self::Iam(GrantType::Unknown) => &mut logins.iam_unknown,
            Self::Mcsp(Flavour::V1) => &mut logins.mcsp_v1,
            Self::Mcsp(Flavour::V2) => &mut logins.mcsp_v2,
            Self::Mcsp(Flavour::Aws) => &mut logins.mcsp_aws,
            Self::Mcsp(Flavour::Gov) => &mut logins.mcsp_gov,
            Self::InstanceToken => &mut logins.instance_token,
            Self::InstanceIamToken => &mut logins.instance_iam_token,
        }
    }

    /// 429 in the words of the service that the endpoint belongs to.
    pub(crate) fn rate_limited(self, request: &Request<Bytes>) -> Answer {
        const MESSAGE: &str = "Too many requests";
        match self {
            Self::Iam(_) => iam::rate_limited(request, MESSAGE),
            Self::Mcsp(_) => mcsp::failure(StatusCode::TOO_MANY_REQUESTS, MESSAGE),
            Self::InstanceToken | Self::InstanceIamToken => metadata::rate_limited(MESSAGE),
            Self::Authorize | Self::IdentityToken | Self::ValidateAuth | Self::Signin => {
                zen_error(StatusCode::TOO_MANY_REQUESTS, MESSAGE)
            }
        }
    }

    /// The field of the answer that carries the token.
    fn token_field(self) -> &'static str {
        match self {
            Self::Authorize | Self::Signin | Self::Mcsp(_) => "token",
            Self::IdentityToken | Self::Iam(_) | Self::InstanceToken | Self::InstanceIamToken => {
                "access_token"
            }
            Self::ValidateAuth => "accessToken",
        }
    }
}

/// The JSON of a login that went well, or the refusal.
type Outcome = Result<Value, Box<Answer>>;

/// Answers a login.
pub(crate) fn answer(state: &mut State, endpoint: Endpoint, request: &Request<Bytes>) -> Answer {
    let outcome = match endpoint {
        Endpoint::Authorize => software_hub::authorize(state, request),
        Endpoint::IdentityToken => software_hub::identity_token(state, request),
        Endpoint::ValidateAuth => software_hub::validate_auth(state, request),
        Endpoint::Signin => software_hub::signin(state, request),
        Endpoint::Iam(grant_type) => iam::token(state, request, grant_type),
        Endpoint::Mcsp(flavour) => mcsp::token(state, request, flavour),
        Endpoint::InstanceToken => metadata::instance_token(state, request),
        Endpoint::InstanceIamToken => metadata::iam_token(state, request),
    };
    let tally = endpoint.tally(&mut state.logins);
    match outcome {
        Ok(body) => {
            tally.granted += 1;
            let mut answer = spoiled(state.garbage, endpoint, body);
            if endpoint == Endpoint::Signin {
                software_hub::start_session(state, answer.headers_mut());
            }
            answer
        }
        Err(refusal) => {
            tally.refused += 1;
            *refusal
        }
    }
}

/// The answer of a login that went well, or what [`Garbage`] makes of it.
fn spoiled(garbage: Option<Garbage>, endpoint: Endpoint, mut body: Value) -> Answer {
    let field = endpoint.token_field();
    match garbage {
        None => {}
        Some(Garbage::Html) => {
            return answer::html(
                StatusCode::OK,
                "<html><head><title>Log in</title></head><body><form>Log in</form></body></html>\n",
            );
        }
        Some(Garbage::NoToken) => {
            body.as_object_mut().map(|fields| fields.remove(field));
        }
        Some(Garbage::NullToken) => body[field] = Value::Null,
        Some(Garbage::EmptyToken) => body[field] = json!(""),
        Some(Garbage::NumberToken) => body[field] = json!(42),
        Some(Garbage::TokenWithNewline) => {
            let token = body[field].as_str().unwrap_or_default();
            body[field] = json!(format!("{token}\r\nx-injected: yes"));
        }
    }
    answer::json(StatusCode::OK, &body)
}
