//! IBM Cloud IAM: `POST /identity/token` with the grant types of IBM's SDK cores, and errors in IAM's form.
//!
//! The real service overlooks fields that it does not know; here each is refused, so that nothing is sent in vain.

mod refusal;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use serde_json::json;

use super::{
    super::admission::user_and_secret,
    Outcome,
    reading::{Fields, media_type, only_header},
};
use crate::{
    TokenState, TrustedProfile, answer::Answer, jwt::Claims, random_alphanumeric, state::State,
    tokens::Step,
};
pub(super) use refusal::rate_limited;
use refusal::{failure, invalid, missing, web_error};

/// What a token is asked for with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum GrantType {
    ApiKey,
    Assume,
    ComputeResource,
    RefreshToken,
    Unknown,
}

impl GrantType {
    pub(super) fn of(body: &[u8]) -> Self {
        match Fields::parse(body).only("grant_type") {
            Some(API_KEY) => Self::ApiKey,
            Some(ASSUME) => Self::Assume,
            Some(COMPUTE_RESOURCE) => Self::ComputeResource,
            Some("refresh_token") => Self::RefreshToken,
            _ => Self::Unknown,
        }
    }

    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::ApiKey => &["grant_type", "apikey", "response_type", "scope"],
            Self::Assume => &[
                "grant_type",
                "access_token",
                "profile_crn",
                "profile_id",
                "profile_name",
                "account",
            ],
            Self::ComputeResource => &[
                "grant_type",
                "cr_token",
                "profile_crn",
                "profile_id",
                "profile_name",
                "scope",
            ],
            Self::RefreshToken => &["grant_type", "refresh_token", "scope"],
            Self::Unknown => &["grant_type"],
        }
    }
}

/// Answers a request for a token.
pub(super) fn token(state: &mut State, request: &Request<Bytes>, grant: GrantType) -> Outcome {
    if request.method() != Method::POST {
        return Err(web_error(request, StatusCode::METHOD_NOT_ALLOWED));
    }
    if media_type(request.headers()) != Some("application/x-www-form-urlencoded") {
        return Err(web_error(request, StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    if request.uri().query().is_some() {
        return Err(invalid(request, "query"));
    }
    let form = Fields::parse(request.body());
    let Some(grant_type) = form.only("grant_type") else {
        return Err(missing(request, "grant_type"));
    };
    if let Some(name) = form.unexpected(grant.fields()) {
        return Err(invalid(request, name));
    }
    let client = client(state, request, grant)?;
    let holder = match grant {
        GrantType::ApiKey => {
            key(state, request, &form)?;
            Holder::ServiceId
        }
        GrantType::Assume => {
            may_assume(state, request, &form)?;
            Holder::Profile
        }
        GrantType::ComputeResource => {
            compute_resource(state, request, &form)?;
            Holder::Profile
        }
        GrantType::RefreshToken => {
            refresh(state, request, &form)?;
            Holder::ServiceId
        }
        GrantType::Unknown => return Err(invalid(request, "grant_type")),
    };
    let scope = form.only("scope").unwrap_or(DEFAULT_SCOPE);
    let (token, expiry) = issue(state, holder, grant_type, scope, client.as_deref());
    // Only a known client gets a refresh token, and only for its own identity.
    let refresh_token = if client.is_some() && holder == Holder::ServiceId {
        state.issue_step(Step::Refresh, REFRESH_LIFETIME)
    } else {
        "not_supported".to_owned()
    };
    Ok(json!({
        "access_token": token,
        "refresh_token": refresh_token,
        "token_type": "Bearer",
        "expires_in": lifetime(state),
        "expiration": expiry,
        "scope": scope,
    }))
}

/// Whom a token speaks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// The service id that the API key belongs to.
    ServiceId,
    /// The trusted profile.
    Profile,
}

/// Signs an IAM token; with it comes when it expires, in seconds since the epoch.
pub(super) fn issue(
    state: &mut State,
    holder: Holder,
    grant_type: &str,
    scope: &str,
    client: Option<&str>,
) -> (String, i64) {
    let now = state.now();
    let expiry = now + lifetime(state);
    let TrustedProfile { id, name, account } = &state.options.trusted_profile;
    let (identifier, sub_type, name) = match holder {
        Holder::ServiceId => (SERVICE_ID, "ServiceId", "simulator"),
        Holder::Profile => (id.as_str(), "Profile", name.as_str()),
    };
    let mut claims = json!({
        "iam_id": format!("iam-{identifier}"),
        "id": format!("iam-{identifier}"),
        "realmid": "iam",
        "jti": random_alphanumeric(32).to_ascii_lowercase(),
        "identifier": identifier,
        "name": name,
        "sub": identifier,
        "sub_type": sub_type,
        "account": { "valid": true, "bss": account },
        "iat": now,
        "exp": expiry,
        "iss": ISSUER,
        "grant_type": grant_type,
        "scope": scope,
        "client_id": client.unwrap_or("default"),
        "acr": 1,
        "amr": ["pwd"],
    });
    if grant_type == ASSUME {
        claims["authn"] = json!({
            "sub": SERVICE_ID,
            "iam_id": format!("iam-{SERVICE_ID}"),
            "sub_type": "ServiceId",
        });
    }
    (state.issue_signed(&claims, expiry), expiry)
}

/// Seconds that an IAM token lives: never more than an hour.
pub(super) fn lifetime(state: &State) -> i64 {
    state.lifetime().min(60 * 60)
}

/// The client that asks, by HTTP Basic. Every installation knows the pair `bx:bx`; where another one is set, the two
/// grants that IBM's SDK cores send it with must come with it.
fn client(
    state: &State,
    request: &Request<Bytes>,
    grant: GrantType,
) -> Result<Option<String>, Box<Answer>> {
    let wanted = state.options.iam_client.as_ref();
    let must = matches!(grant, GrantType::ApiKey | GrantType::ComputeResource) && wanted.is_some();
    if !request.headers().contains_key(header::AUTHORIZATION) {
        return if must || grant == GrantType::RefreshToken {
            Err(missing(request, "client_id"))
        } else {
            Ok(None)
        };
    }
    let pair = only_header(request.headers(), header::AUTHORIZATION.as_str())
        .and_then(|value| value.strip_prefix("Basic "))
        .and_then(user_and_secret)
        .ok_or_else(|| invalid(request, "client_id"))?;
    let known = match wanted {
        Some(wanted) => pair == *wanted,
        None => pair.0 == "bx" && pair.1 == "bx",
    };
    if known {
        Ok(Some(pair.0))
    } else {
        Err(invalid(request, "client_id"))
    }
}

fn key(state: &State, request: &Request<Bytes>, form: &Fields) -> Result<(), Box<Answer>> {
    let key = property(request, form, "apikey")?;
    if let Some(kind) = form.only("response_type")
        && kind != "cloud_iam"
    {
        return Err(invalid(request, "response_type"));
    }
    if key == state.options.iam_api_key {
        Ok(())
    } else {
        Err(failure(
            request,
            "BXNIM0415E",
            "Provided API key could not be found.",
            None,
        ))
    }
}

/// A token that was itself obtained by assuming the profile does not assume it again.
fn may_assume(state: &State, request: &Request<Bytes>, form: &Fields) -> Result<(), Box<Answer>> {
    let token = property(request, form, "access_token")?;
    match state.check(token) {
        Ok(Claims::Cloud(claims))
            if claims.iss == ISSUER && claims.grant_type.as_deref() != Some(ASSUME) => {}
        Err(TokenState::Expired) => {
            return Err(failure(
                request,
                "BXNIM0410E",
                "Provided user or service token is expired.",
                None,
            ));
        }
        _ => {
            return Err(failure(
                request,
                "BXNIM0401E",
                "Provided token is malformed.",
                None,
            ));
        }
    }
    let profile = &state.options.trusted_profile;
    let given =
        ["profile_crn", "profile_id", "profile_name", "account"].map(|name| form.only(name));
    match given {
        [Some(crn), None, None, None] => known(request, "profile_crn", crn == profile.crn()),
        [None, Some(id), None, None] => known(request, "profile_id", id == profile.id),
        [None, None, Some(name), Some(account)] => known(
            request,
            "profile_name",
            name == profile.name && account == profile.account,
        ),
        [None, None, Some(_), None] => Err(missing(request, "account")),
        [None, None, None, _] => Err(missing(request, "profile_id")),
        _ => Err(invalid(request, "profile_id")),
    }
}

/// The account is that of the compute resource; whatever is said of the profile must be right.
fn compute_resource(
    state: &State,
    request: &Request<Bytes>,
    form: &Fields,
) -> Result<(), Box<Answer>> {
    if property(request, form, "cr_token")? != state.options.compute_resource_token {
        return Err(failure(
            request,
            "BXNIM0401E",
            "Provided token is malformed.",
            None,
        ));
    }
    let TrustedProfile { id, name, .. } = &state.options.trusted_profile;
    let crn = state.options.trusted_profile.crn();
    let mut named = false;
    for (field, right) in [
        ("profile_id", id),
        ("profile_name", name),
        ("profile_crn", &crn),
    ] {
        if let Some(value) = form.only(field) {
            known(request, field, value == right)?;
            named = true;
        }
    }
    if named {
        Ok(())
    } else {
        Err(missing(request, "profile_id"))
    }
}

fn refresh(state: &State, request: &Request<Bytes>, form: &Fields) -> Result<(), Box<Answer>> {
    let token = property(request, form, "refresh_token")?;
    match state.judge_step(Step::Refresh, token) {
        TokenState::Valid => Ok(()),
        TokenState::Expired => Err(failure(
            request,
            "BXNIM0408E",
            "Provided refresh token is expired",
            None,
        )),
        TokenState::Revoked | TokenState::Foreign => Err(failure(
            request,
            "BXNIM0407E",
            "Provided refresh token is invalid",
            None,
        )),
    }
}

fn property<'a>(
    request: &Request<Bytes>,
    form: &'a Fields,
    name: &str,
) -> Result<&'a str, Box<Answer>> {
    form.only(name)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| missing(request, name))
}

fn known(request: &Request<Bytes>, field: &str, known: bool) -> Result<(), Box<Answer>> {
    if known {
        Ok(())
    } else {
        Err(invalid(request, field))
    }
}

pub(super) const COMPUTE_RESOURCE: &str = "urn:ibm:params:oauth:grant-type:cr-token";
pub(super) const DEFAULT_SCOPE: &str = "ibm openid";
const API_KEY: &str = "urn:ibm:params:oauth:grant-type:apikey";
const ASSUME: &str = "urn:ibm:params:oauth:grant-type:assume";
const ISSUER: &str = "https://iam.cloud.ibm.com/identity";
const SERVICE_ID: &str = "ServiceId-2f1d7a0e-4c1e-4b6e-9a55-0d5f8f2b7c31";
/// Thirty days, in seconds.
const REFRESH_LIFETIME: i64 = 30 * 24 * 60 * 60;
