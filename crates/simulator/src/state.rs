//! Everything about a simulator that changes: credentials in force, tokens handed out, failures switched on.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::{
    Options, TokenState,
    jwt::{self, AUDIENCE, Claims, ISSUER, UserClaims},
    random_alphanumeric,
    tokens::{Ledger, Step},
};

/// How a login endpoint fails, as [`Simulator::set_outage`](crate::Simulator::set_outage) switches it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// 503 with the HTML page that an OpenShift router shows while no pod is ready.
    Unavailable,
    /// 429 with a JSON body.
    RateLimited,
    /// The connection is closed without an answer.
    Closed,
    /// No answer ever comes.
    Hanging,
}

/// What a login endpoint answers, with status 200, in place of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    /// An HTML page, as a sign-on portal in front would show.
    Html,
    /// The JSON answer without the token.
    NoToken,
    /// The token is `null`.
    NullToken,
    /// The token is the empty string.
    EmptyToken,
    /// The token is a number.
    NumberToken,
    /// The token is followed by a line break and what would be another header.
    TokenWithNewline,
}

/// Requests to one login endpoint since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that arrived, those during an outage included.
    pub attempts: u64,
    /// Answers with a token.
    pub granted: u64,
    /// Answers that refused the request or its credentials.
    pub refused: u64,
}

/// Requests to the login endpoints since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logins {
    /// `POST /icp4d-api/v1/authorize`.
    pub authorize: Tally,
    /// `POST /idprovider/v1/auth/identitytoken`.
    pub identity_token: Tally,
    /// `GET /v1/preauth/validateAuth`.
    pub validate_auth: Tally,
    /// `POST /v1/preauth/signin`.
    pub signin: Tally,
    /// `POST /identity/token` with an API key.
    pub iam_api_key: Tally,
    /// `POST /identity/token` to assume a trusted profile.
    pub iam_assume: Tally,
    /// `POST /identity/token` with a compute resource token.
    pub iam_compute_resource: Tally,
    /// `POST /identity/token` with a refresh token.
    pub iam_refresh_token: Tally,
    /// `POST /identity/token` with any other grant type, or none.
    pub iam_unknown: Tally,
    /// `POST /siusermgr/api/1.0/apikeys/token`.
    pub mcsp_v1: Tally,
    /// `POST /api/2.0/{accounts|subscriptions|services}/{id}/apikeys/token`.
    pub mcsp_v2: Tally,
    /// `POST /api/2.0/apikeys/token`.
    pub mcsp_aws: Tally,
    /// `POST /api/rest/mcsp/apikeys/token`.
    pub mcsp_gov: Tally,
    /// `PUT /instance_identity/v1/token`, and `/identity/v1/token` since 2025-08-26.
    pub instance_token: Tally,
    /// `POST /instance_identity/v1/iam_token`, and `/identity/v1/iam_tokens` since 2025-08-26.
    pub instance_iam_token: Tally,
}

/// How a 401 of the platform's APIs is told, as [`Simulator::set_refusal`](crate::Simulator::set_refusal) chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// With its length, once the request has arrived whole.
    #[default]
    Whole,
    /// As soon as the head is there, while the body is still to come; what comes of it is read and dropped. A request
    /// without any Bearer token is refused the usual way.
    Early,
    /// In chunks, with the pause of streams between them.
    Chunked,
}

/// What the user did to get a token.
#[derive(Clone, Copy)]
pub(crate) enum Grant {
    /// A token that stands on its own.
    Token,
    /// A web session.
    Session,
}

pub(crate) struct State {
    pub(crate) options: Options,
    /// Seconds by which the simulator's clock is ahead of the machine's.
    pub(crate) clock_skew: i64,
    pub(crate) outage: Option<Outage>,
    pub(crate) garbage: Option<Garbage>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) login_delay: Duration,
    pub(crate) logins: Logins,
    /// License Service's API token in the Secret, which a restart of the pod puts in force.
    pub(crate) configured_license_token: Option<String>,
    pub(crate) refusal: Refusal,
    /// The segments of the paths that answer 401, whatever the token.
    pub(crate) refused_paths: Vec<Vec<String>>,
    ledger: Ledger,
}

impl State {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            clock_skew: 0,
            outage: None,
            garbage: None,
            retry_after: None,
            login_delay: Duration::ZERO,
            logins: Logins::default(),
            configured_license_token: None,
            refusal: Refusal::default(),
            refused_paths: Vec::new(),
            ledger: Ledger::default(),
        }
    }

    /// Seconds since the epoch on the simulator's clock.
    pub(crate) fn now(&self) -> i64 {
        let now = SystemTime::UNIX_EPOCH
            .elapsed()
            .expect("the clock is later than 1970");
        i64::try_from(now.as_secs()).expect("seconds since 1970 fit") + self.clock_skew
    }

    /// Seconds that a token issued now will live.
    pub(crate) fn lifetime(&self) -> i64 {
        i64::try_from(self.options.token_lifetime.as_secs()).unwrap_or(i64::MAX / 2)
    }

    /// What a token issued now says.
    pub(crate) fn claims(&self, grant: Grant) -> UserClaims {
        let id = random_alphanumeric(32).to_ascii_lowercase();
        let (session_id, token_id) = match grant {
            Grant::Session => (Some(id), None),
            Grant::Token => (None, Some(id)),
        };
        let now = self.now();
        UserClaims {
            username: self.options.username.clone(),
            role: "User".to_owned(),
            permissions: PERMISSIONS.map(str::to_owned).to_vec(),
            sub: self.options.username.clone(),
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            uid: USER_ID.to_owned(),
            authenticator: "default".to_owned(),
            session_id,
            token_id,
            iat: now,
            exp: now + self.lifetime(),
        }
    }

    /// A signed platform token for the user.
    pub(crate) fn issue(&mut self, grant: Grant) -> String {
        let claims = self.claims(grant);
        self.issue_for(&claims)
    }

    /// A signed platform token that says `claims`.
    pub(crate) fn issue_for(&mut self, claims: &UserClaims) -> String {
        self.issue_signed(claims, claims.exp)
    }

    /// A signed token that says `claims`, their `exp` included, and opens the APIs.
    pub(crate) fn issue_signed(&mut self, claims: &impl Serialize, expiry: i64) -> String {
        let token = jwt::sign(claims);
        self.ledger.enter(&token, expiry);
        token
    }

    /// An opaque token that lives for so many seconds and is good for one step of a login only.
    pub(crate) fn issue_step(&mut self, step: Step, lifetime: i64) -> String {
        let token = random_alphanumeric(40);
        let expiry = self.now() + lifetime;
        self.ledger.enter_step(step, &token, expiry);
        token
    }

    /// Notes a secret that an answer carries beside the token itself.
    pub(crate) fn note_issued(&mut self, secret: &str) {
        self.ledger.note(secret);
    }

    pub(crate) fn issued(&self) -> Vec<String> {
        self.ledger.issued()
    }

    /// Voids every token handed out so far.
    pub(crate) fn revoke_all(&mut self) {
        self.ledger.revoke_all();
    }

    /// Voids one platform token; whether it is one.
    pub(crate) fn revoke(&mut self, token: &str) -> bool {
        self.ledger.revoke(token)
    }

    /// The platform token that was issued last.
    pub(crate) fn latest_token(&self) -> Option<String> {
        self.ledger.latest().map(str::to_owned)
    }

    /// What a platform token is worth now.
    pub(crate) fn judge(&self, token: &str) -> TokenState {
        self.ledger.judge(token, self.now())
    }

    /// What a token of a login's first step is worth now.
    pub(crate) fn judge_step(&self, step: Step, token: &str) -> TokenState {
        self.ledger.judge_step(step, token, self.now())
    }

    /// Judges a platform token by signature, revocation and expiry. One that another simulator of this process
    /// issued has a good signature, and is foreign all the same.
    pub(crate) fn check(&self, token: &str) -> Result<Claims, TokenState> {
        let claims = jwt::verify(token).ok_or(TokenState::Foreign)?;
        match self.judge(token) {
            TokenState::Valid => {}
            judged => return Err(judged),
        }
        match &claims {
            Claims::User(user) if user.username != self.options.username => {
                Err(TokenState::Foreign)
            }
            _ => Ok(claims),
        }
    }

    /// Whether every request below this path is answered 401.
    pub(crate) fn refuses(&self, segments: &[&str]) -> bool {
        self.refused_paths.iter().any(|path| {
            path.len() <= segments.len() && path.iter().zip(segments).all(|(a, b)| a == b)
        })
    }

    pub(crate) fn knows_password(&self, username: &str, password: &str) -> bool {
        username == self.options.username && password == self.options.password
    }

    pub(crate) fn knows_api_key(&self, username: &str, api_key: &str) -> bool {
        username == self.options.username && api_key == self.options.api_key
    }
}

/// The user's numeric id, as Zen writes it.
pub(crate) const USER_ID: &str = "1000331001";
const PERMISSIONS: [&str; 3] = ["sign_in_only", "can_provision", "access_catalog"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_until_its_expiry_on_the_simulators_clock() {
        let mut state = State::new(Options {
            token_lifetime: Duration::from_mins(1),
            ..Options::default()
        });
        let token = state.issue(Grant::Token);
        let Claims::User(user) = state.check(&token).unwrap() else {
            panic!("the claims are not those of a user");
        };
        assert_eq!(user.uid, USER_ID);
        state.clock_skew = 61;
        assert_eq!(state.check(&token).unwrap_err(), TokenState::Expired);
    }

    #[test]
    fn revocation_reaches_only_what_was_issued_before() {
        let mut state = State::new(Options::default());
        let old = state.issue(Grant::Token);
        state.revoke_all();
        let new = state.issue(Grant::Session);
        assert_eq!(state.check(&old).unwrap_err(), TokenState::Revoked);
        assert!(state.check(&new).is_ok());
        assert_eq!(state.issued(), [old, new]);
    }

    #[test]
    fn a_changed_payload_breaks_the_signature() {
        let mut state = State::new(Options::default());
        let token = state.issue(Grant::Token);
        let other = state.issue(Grant::Token);
        let mut parts: Vec<&str> = token.split('.').collect();
        parts[1] = other.split('.').nth(1).unwrap();
        assert_eq!(
            state.check(&parts.join(".")).unwrap_err(),
            TokenState::Foreign
        );
    }

    #[test]
    fn a_token_of_another_simulator_is_foreign() {
        let mut other = State::new(Options::default());
        let token = other.issue(Grant::Token);
        let state = State::new(other.options.clone());
        assert!(jwt::verify(&token).is_some());
        assert_eq!(state.check(&token).unwrap_err(), TokenState::Foreign);
    }
}
