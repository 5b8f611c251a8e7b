//! The four endpoints that hand out platform tokens.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::admission::user_and_secret;
use crate::{
    answer::{self, Answer, zen_error},
    jwt, random_alphanumeric,
    state::{Garbage, Grant, Logins, State, Tally},
};

/// One of the login endpoints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Authorize,
    IdentityToken,
    ValidateAuth,
    Signin,
}

impl Endpoint {
    pub(crate) fn at(segments: &[&str]) -> Option<Self> {
        match segments {
            ["icp4d-api", "v1", "authorize"] => Some(Self::Authorize),
            ["idprovider", "v1", "auth", "identitytoken"] => Some(Self::IdentityToken),
            ["v1", "preauth", "validateauth"] => Some(Self::ValidateAuth),
            ["v1", "preauth", "signin"] => Some(Self::Signin),
            _ => None,
        }
    }

    pub(crate) fn tally(self, logins: &mut Logins) -> &mut Tally {
        match self {
            Self::Authorize => &mut logins.authorize,
            Self::IdentityToken => &mut logins.identity_token,
            Self::ValidateAuth => &mut logins.validate_auth,
            Self::Signin => &mut logins.signin,
        }
    }

    /// The field of the answer that carries the token.
    fn token_field(self) -> &'static str {
        match self {
            Self::Authorize | Self::Signin => "token",
            Self::IdentityToken => "access_token",
            Self::ValidateAuth => "accessToken",
        }
    }
}

/// Answers a login.
pub(crate) fn answer(state: &mut State, endpoint: Endpoint, request: &Request<Bytes>) -> Answer {
    let outcome = match endpoint {
        Endpoint::Authorize => authorize(state, request),
        Endpoint::IdentityToken => identity_token(state, request),
        Endpoint::ValidateAuth => validate_auth(state, request),
        Endpoint::Signin => signin(state, request),
    };
    let tally = endpoint.tally(&mut state.logins);
    match outcome {
        Ok(body) => {
            tally.granted += 1;
            let mut answer = spoiled(state.garbage, endpoint, body);
            if endpoint == Endpoint::Signin {
                start_session(state, answer.headers_mut());
            }
            answer
        }
        Err(refusal) => {
            tally.refused += 1;
            *refusal
        }
    }
}

type Outcome = Result<Value, Box<Answer>>;

/// Both secrets may be present as `null`: IBM's Python core sends them so.
#[derive(Deserialize)]
struct UserAndSecret {
    username: Option<String>,
    password: Option<String>,
    api_key: Option<String>,
    account_id: Option<String>,
}

fn authorize(state: &mut State, request: &Request<Bytes>) -> Outcome {
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

fn signin(state: &mut State, request: &Request<Bytes>) -> Outcome {
    let sent = post_json(request)?;
    let (Some(username), Some(password)) = (sent.username, sent.password) else {
        return Err(bad_request("username and password are needed"));
    };
    if !state.knows_password(&username, &password) {
        return Err(unauthorized());
    }
    Ok(token_answer(&state.issue(Grant::Session)))
}

fn identity_token(state: &mut State, request: &Request<Bytes>) -> Outcome {
    require_method(request, &Method::POST, "POST")?;
    if media_type(request.headers()) != Some("application/x-www-form-urlencoded") {
        return Err(oauth_error(
            "invalid_request",
            "CWOAU0033E: the content type is not a form",
        ));
    }
    let form = Form(
        form_urlencoded::parse(request.body())
            .into_owned()
            .collect(),
    );
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
    Ok(json!({
        "access_token": state.issue_identity_token(),
        "refresh_token": refresh_token,
        "id_token": id_token,
        "token_type": "Bearer",
        "expires_in": state.lifetime(),
        "scope": "openid",
    }))
}

/// Takes the `username` and `iam-token` headers, the `username` and `password` headers, or HTTP Basic.
fn validate_auth(state: &mut State, request: &Request<Bytes>) -> Outcome {
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
            username == state.options.username && state.knows_identity_token(token)
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
fn start_session(state: &mut State, headers: &mut HeaderMap) {
    let session = random_alphanumeric(64);
    let cookie = format!("ibm-private-cloud-session={session}; Path=/; Secure; HttpOnly");
    state.note_issued(&session);
    headers.insert(
        header::SET_COOKIE,
        HeaderValue::try_from(cookie).expect("letters and digits are a header value"),
    );
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

fn post_json(request: &Request<Bytes>) -> Result<UserAndSecret, Box<Answer>> {
    require_method(request, &Method::POST, "POST")?;
    if media_type(request.headers()) != Some("application/json") {
        return Err(bad_request("the content type is not application/json"));
    }
    serde_json::from_slice(request.body()).map_err(|_| bad_request("the body is not valid JSON"))
}

fn require_method(
    request: &Request<Bytes>,
    method: &Method,
    allowed: &'static str,
) -> Result<(), Box<Answer>> {
    if request.method() == method {
        Ok(())
    } else {
        Err(Box::new(answer::method_not_allowed(allowed)))
    }
}

/// The content type without its parameters.
fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = only_header(headers, header::CONTENT_TYPE.as_str())?;
    value.split(';').next().map(str::trim)
}

/// The value of a header that is there once; one that is repeated counts as missing.
fn only_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

struct Form(Vec<(String, String)>);

impl Form {
    /// The value of a field that is there once; one that is repeated counts as missing.
    fn only(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(field, _)| field == name);
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }
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
