//! Decoys: a client that insists on logging in is answered here, with a token that is worth nothing upstream.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{
    answer::Answer,
    respond::{self, PROXY_STATUS},
    trip::Trip,
};

/// A login that is answered as the real endpoint would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Software Hub, with a key or a password.
    Authorize,
    /// The same, as a client calls it that was given the address without `icp4d-api`.
    AuthorizeAtTop,
    /// Software Hub with LDAP.
    Signin,
    /// The first step of Software Hub with the Identity Management Service.
    IdentityToken,
    /// The second step, and a login of its own with HTTP Basic.
    ValidateAuth,
    /// IBM Cloud IAM.
    Iam,
    /// The Multi-Cloud SaaS Platform.
    Mcsp,
    /// The same, as watsonx on AWS has it.
    McspAws,
    /// The same, as watsonx on AWS GovCloud has it.
    McspGov,
    /// Version 2 of the same, for an account.
    McspAccount,
    /// Version 2, for a subscription.
    McspSubscription,
    /// Version 2, for a service.
    McspService,
    /// watsonx.data, with a key or a token as the password.
    Lakehouse,
}

impl Login {
    /// Every login that there is a decoy for.
    pub const ALL: [Self; 13] = [
        Self::Authorize,
        Self::AuthorizeAtTop,
        Self::Signin,
        Self::IdentityToken,
        Self::ValidateAuth,
        Self::Iam,
        Self::Mcsp,
        Self::McspAws,
        Self::McspGov,
        Self::McspAccount,
        Self::McspSubscription,
        Self::McspService,
        Self::Lakehouse,
    ];

    /// How it is called: the method, and the end of the path in lower case, where `*` is any one segment.
    pub fn call(self) -> (&'static Method, &'static str) {
        let post = |path| (&Method::POST, path);
        match self {
            Self::Authorize => post("icp4d-api/v1/authorize"),
            Self::AuthorizeAtTop => post("v1/authorize"),
            Self::Signin => post("v1/preauth/signin"),
            Self::IdentityToken => post("idprovider/v1/auth/identitytoken"),
            Self::ValidateAuth => (&Method::GET, "v1/preauth/validateauth"),
            Self::Iam => post("identity/token"),
            Self::Mcsp => post("siusermgr/api/1.0/apikeys/token"),
            Self::McspAws => post("api/2.0/apikeys/token"),
            Self::McspGov => post("api/rest/mcsp/apikeys/token"),
            Self::McspAccount => post("api/2.0/accounts/*/apikeys/token"),
            Self::McspSubscription => post("api/2.0/subscriptions/*/apikeys/token"),
            Self::McspService => post("api/2.0/services/*/apikeys/token"),
            Self::Lakehouse => post("lakehouse/api/*/auth/authenticate"),
        }
    }

    /// What the real endpoint answers, with a token issued at `now`, in seconds since the epoch.
    fn body(self, now: u64) -> Value {
        let token = token(now);
        let (lifetime, expiration) = (LIFETIME.as_secs(), now + LIFETIME.as_secs());
        match self {
            Self::Authorize | Self::AuthorizeAtTop | Self::Signin => {
                json!({ "_messageCode_": "200", "message": "Success", "token": token })
            }
            Self::IdentityToken => json!({
                "access_token": token,
                "refresh_token": "not_supported",
                "id_token": token,
                "token_type": "Bearer",
                "expires_in": lifetime,
                "scope": "openid",
            }),
            // The documentation says `token`, clients read `accessToken`.
            Self::ValidateAuth => json!({
                "username": NAME,
                "role": "User",
                "permissions": [],
                "sub": NAME,
                "iss": ISSUER,
                "uid": NAME,
                "accessToken": token,
                "token": token,
                "_messageCode_": "success",
                "message": "success",
            }),
            Self::Iam => json!({
                "access_token": token,
                "refresh_token": "not_supported",
                "token_type": "Bearer",
                "expires_in": lifetime,
                "expiration": expiration,
                "scope": "ibm openid",
            }),
            Self::Mcsp | Self::McspAws | Self::McspGov => {
                json!({ "token": token, "token_type": "jwt", "expires_in": lifetime })
            }
            Self::McspAccount | Self::McspSubscription | Self::McspService => json!({
                "token": token,
                "token_type": "jwt",
                "expires_in": lifetime,
                "expiration": expiration,
            }),
            // Some clients read the one name, some the other.
            Self::Lakehouse => json!({
                "accessToken": token,
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": lifetime,
                "_messageCode_": "success",
                "message": "success",
            }),
        }
    }
}

/// The answer to a login.
pub fn answer(login: Login, mut trip: Box<Trip>) -> Response<Answer> {
    trip.status = Some(StatusCode::OK);
    trip.is_decoy = true;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let text = login.body(now.unwrap_or_default().as_secs()).to_string();
    let id = trip.id();
    let mut answer = respond::own(StatusCode::OK, text, &id, trip);
    // So that whoever wonders about the token sees where it comes from.
    let status = HeaderValue::from_static("watsonx-auth-proxy; details=\"decoy\"");
    answer.headers_mut().insert(PROXY_STATUS, status);
    answer
}

/// A JWT as clients read it. Its signature is random: there is no key that it could be made or checked with.
fn token(now: u64) -> String {
    let claims = json!({
        "iss": ISSUER,
        "sub": NAME,
        "username": NAME,
        "uid": NAME,
        "permissions": [],
        "iat": now,
        "exp": now + LIFETIME.as_secs(),
    });
    let mut signature = [0; 32];
    fastrand::fill(&mut signature);
    let encode = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
    let header = encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let claims = encode(claims.to_string().as_bytes());
    format!("{header}.{claims}.{}", encode(&signature))
}

/// As long as a token of Software Hub lives where nobody has changed that.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

const ISSUER: &str = "watsonx-auth-proxy";

const NAME: &str = "decoy";

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD_NO_PAD;

    use super::*;

    #[test]
    fn the_token_is_a_jwt_that_says_what_it_is() {
        let token = token(1_700_000_000);
        let parts: Vec<_> = token.split('.').collect();
        let [header, claims, signature] = parts[..] else {
            panic!("{token}");
        };
        let decode = |part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        let read = |part| serde_json::from_slice::<Value>(&decode(part)).unwrap();
        assert_eq!(read(header), json!({ "alg": "HS256", "typ": "JWT" }));
        assert_eq!(read(claims)["iat"], 1_700_000_000);
        assert_eq!(read(claims)["exp"], 1_700_043_200);
        assert_eq!(read(claims)["iss"], "watsonx-auth-proxy");
        assert_eq!(read(claims)["username"], "decoy");
        assert_eq!(decode(signature).len(), 32);
        assert_ne!(token, super::token(1_700_000_000));
    }

    #[test]
    fn claims_are_the_same_in_both_alphabets() {
        // ibm-watsonx-ai takes the payload for standard base64.
        for now in (1_700_000_000..1_700_010_000).step_by(97) {
            let token = token(now);
            let claims = token.split('.').nth(1).unwrap();
            assert!(BASE64_STANDARD_NO_PAD.decode(claims).is_ok(), "{claims}");
        }
    }

    #[test]
    fn each_answer_has_what_its_clients_read() {
        let read: [(Login, &[&str]); 13] = [
            (Login::Authorize, &["token", "message", "_messageCode_"]),
            (
                Login::AuthorizeAtTop,
                &["token", "message", "_messageCode_"],
            ),
            (Login::Signin, &["token", "message", "_messageCode_"]),
            (
                Login::IdentityToken,
                &["access_token", "refresh_token", "id_token", "expires_in"],
            ),
            (Login::ValidateAuth, &["accessToken", "token", "username"]),
            (
                Login::Iam,
                &["access_token", "refresh_token", "expires_in", "expiration"],
            ),
            (Login::Mcsp, &["token", "token_type", "expires_in"]),
            (Login::McspAws, &["token", "token_type", "expires_in"]),
            (Login::McspGov, &["token", "token_type", "expires_in"]),
            (Login::McspAccount, &["token", "expires_in", "expiration"]),
            (
                Login::McspSubscription,
                &["token", "expires_in", "expiration"],
            ),
            (Login::McspService, &["token", "expires_in", "expiration"]),
            (Login::Lakehouse, &["accessToken", "access_token"]),
        ];
        assert_eq!(read.map(|(login, _)| login), Login::ALL);
        for (login, fields) in read {
            let body = login.body(7);
            for field in fields {
                assert!(!body[field].is_null(), "{login:?} {field}");
            }
            if !body["expiration"].is_null() {
                assert_eq!(body["expiration"], 7 + 43_200);
            }
        }
    }
}
