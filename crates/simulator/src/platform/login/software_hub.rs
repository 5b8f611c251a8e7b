//! The four logins of IBM Software Hub: with a key or a password, by Identity Management in two steps, by LDAP.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::admission::user_and_secret,
    Outcome,
    reading::{Fields, media_type, only_header, require_method},
};
use crate::{
    TokenState,
    answer::{self, Answer, zen_error},
    jwt, random_alphanumeric,
    state::{Grant, State},
    tokens::Step,
};

/// Both secrets may be present as `null`: IBM's Python core sends them so.
#[derive(Deserialize)]
struct UserAndSecret {
    username: Option<String>,
    password: Option<String>,
    api_key: Option<String>,
    account_id: Option<String>,
}

pub(super) fn authorize(state: &mut State, request: &Request<Bytes>) -> Outcome {
    let sent = post_json(request)?;
    let username = sent
        .username
        .ok_or_else(|| bad_request("username is missing"))?;
    let known = match (&sent.password, &sent.api_key) {
        (Some(password), None) => state.knows_password(&username, password),
        (None, Some(api_key)) => state.knows_api_key(&username, api_key),
        _ => return Err(bad_request("exactly one of password and api_key is needed")),
    };
    let right_account =
        state.options.account_id.is_none() || state.options.account_id == sent.account_id;
    if !known || !right_account {
        return Err(unauthorized());
    }
    Ok(token_answer(&state.issue(Grant::Token)))
}

pub(super) fn signin(state: &mut State, request: &Request<Bytes>) -> Outcome {
    let sent = post_json(request)?;
    let (Some(username), Some(password)) = (sent.username, sent.password) else {
        return Err(bad_request("username and password are needed"));
    };
    if !state.knows_password(&username, &password) {
        return Err(unauthorized());
    }
    Ok(token_answer(&state.issue(Grant::Session)))
}

pub(super) fn identity_token(state: &mut State, request: &Request<Bytes>) -> Outcome {
    require_method(request, &Method::POST, "POST")?;
    if media_type(request.headers()) != Some("application/x-www-form-urlencoded") {
        return Err(oauth_error(
            "invalid_request",
            "CWOAU0033E: the content type is not a form",
        ));
    }
    let form = Fields::parse(request.body());
    if form.only("grant_type") != Some("password") {
        return Err(oauth_error(
            "unsupported_grant_type",
            "CWOAU0027E: grant_type must be password",
        ));
    }
    if form.only("scope") != Some("openid") {
        return Err(oauth_error(
            "invalid_scope",
            "CWOAU0064E: the scope openid was not requested",
        ));
    }
    let (Some(username), Some(password)) = (form.only("username"), form.only("password")) else {
        return Err(oauth_error(
            "invalid_request",
            "CWOAU0028E: username and password are needed",
        ));
    };
    if !state.knows_password(username, password) {
        return Err(oauth_error(
            "invalid_resource_owner_credential",
            "CWOAU0069E: The resource owner could not be verified. Either the resource owner or password is incorrect.",
        ));
    }
    // The identity token proves who signed in; it is issued by OIDC, so the platform's APIs refuse it.
    let mut identity = state.claims(Grant::Token);
    "https://127.0.0.1:443/idauth/oidc/endpoint/OP".clone_into(&mut identity.iss);
    let id_token = jwt::sign(&identity);
    let refresh_token = random_alphanumeric(50);
    state.note_issued(&id_token);
    state.note_issued(&refresh_token);
    let lifetime = state.lifetime();
    Ok(json!({
        "access_token": state.issue_step(Step::IdentityManagement, lifetime),
        "refresh_token": refresh_token,
        "id_token": id_token,
        "token_type": "Bearer",
        "expires_in": lifetime,
        "scope": "openid",
    }))
}

/// Takes the `username` and `iam-token` headers, the `username` and `password` headers, or HTTP Basic.
pub(super) fn validate_auth(state: &mut State, request: &Request<Bytes>) -> Outcome {
    require_method(request, &Method::GET, "GET")?;
    let headers = request.headers();
    let username = only_header(headers, "username");
    let known = match (
        username,
        only_header(headers, "iam-token"),
        only_header(headers, "password"),
        only_header(headers, header::AUTHORIZATION.as_str()),
    ) {
        (Some(username), Some(token), None, None) => {
            username == state.options.username
                && state.judge_step(Step::IdentityManagement, token) == TokenState::Valid
        }
        (Some(username), None, Some(password), None) => state.knows_password(username, password),
        (None, None, None, Some(basic)) => basic
            .strip_prefix("Basic ")
            .and_then(user_and_secret)
            .is_some_and(|(username, password)| state.knows_password(&username, &password)),
        _ => false,
    };
    if !known {
        return Err(unauthorized());
    }
    let claims = state.claims(Grant::Token);
    let token = state.issue_for(&claims);
    Ok(json!({
        "username": claims.username,
        "role": claims.role,
        "permissions": claims.permissions,
        "sub": claims.sub,
        "iss": claims.iss,
        "aud": claims.aud,
        "uid": claims.uid,
        "authenticator": claims.authenticator,
        "accessToken": token,
        "_messageCode_": "success",
        "message": "success",
    }))
}

fn token_answer(token: &str) -> Value {
    json!({ "_messageCode_": "200", "message": "Success", "token": token })
}

/// `signin` opens a web session, whose cookie is as good as a token on a real platform.
pub(super) fn start_session(state: &mut State, headers: &mut HeaderMap) {
    let session = random_alphanumeric(64);
    let cookie = format!("ibm-private-cloud-session={session}; Path=/; Secure; HttpOnly");
    state.note_issued(&session);
    headers.insert(
        header::SET_COOKIE,
        HeaderValue::try_from(cookie).expect("letters and digits are a header value"),
    );
}

fn post_json(request: &Request<Bytes>) -> Result<UserAndSecret, Box<Answer>> {
    require_method(request, &Method::POST, "POST")?;
    if media_type(request.headers()) != Some("application/json") {
        return Err(bad_request("the content type is not application/json"));
    }
    serde_json::from_slice(request.body()).map_err(|_| bad_request("the body is not valid JSON"))
}

fn bad_request(exception: &str) -> Box<Answer> {
    Box::new(zen_error(StatusCode::BAD_REQUEST, exception))
}

/// The platform says the same for a wrong password and for a user without rights.
fn unauthorized() -> Box<Answer> {
    Box::new(zen_error(
        StatusCode::UNAUTHORIZED,
        "User unauthorized to invoke this endpoint.",
    ))
}

/// The error form of the OAuth provider in Liberty, which the Identity Management Service runs on.
fn oauth_error(error: &str, description: &str) -> Box<Answer> {
    Box::new(answer::json(
        StatusCode::BAD_REQUEST,
        &json!({ "error": error, "error_description": description }),
    ))
}
