//! Everything about a simulator that changes: credentials in force, tokens handed out, failures switched on.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, SystemTime},
};

use crate::{
    Options,
    jwt::{self, AUDIENCE, Claims, ISSUER},
    random_alphanumeric,
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
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenRefusal {
    /// Not one of ours, or revoked.
    NotValid,
    /// Its time is over.
    Expired,
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
    /// Every credential that a login handed out, in order.
    issued: Vec<String>,
    revoked: HashSet<String>,
    /// Access tokens of the Identity Management Service, with their expiry.
    identity_tokens: HashMap<String, i64>,
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
            issued: Vec::new(),
            revoked: HashSet::new(),
            identity_tokens: HashMap::new(),
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
    pub(crate) fn claims(&self, grant: Grant) -> Claims {
        let id = random_alphanumeric(32).to_ascii_lowercase();
        let (session_id, token_id) = match grant {
            Grant::Session => (Some(id), None),
            Grant::Token => (None, Some(id)),
        };
        let now = self.now();
        Claims {
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
    pub(crate) fn issue_for(&mut self, claims: &Claims) -> String {
        let token = jwt::sign(claims);
        self.issued.push(token.clone());
        token
    }

    /// An opaque access token of the Identity Management Service, good for `validateAuth` only.
    pub(crate) fn issue_identity_token(&mut self) -> String {
        let token = random_alphanumeric(40);
        let expiry = self.now() + self.lifetime();
        self.identity_tokens.insert(token.clone(), expiry);
        self.issued.push(token.clone());
        token
    }

    /// Notes a secret that an answer carries beside the token itself.
    pub(crate) fn note_issued(&mut self, secret: &str) {
        self.issued.push(secret.to_owned());
    }

    pub(crate) fn issued(&self) -> Vec<String> {
        self.issued.clone()
    }

    /// Voids every token handed out so far.
    pub(crate) fn revoke_all(&mut self) {
        self.revoked.extend(self.issued.iter().cloned());
        self.identity_tokens.clear();
    }

    /// Judges a platform token by signature, revocation and expiry.
    pub(crate) fn check(&self, token: &str) -> Result<Claims, TokenRefusal> {
        let claims = jwt::verify(token).ok_or(TokenRefusal::NotValid)?;
        if self.revoked.contains(token) || claims.username != self.options.username {
            return Err(TokenRefusal::NotValid);
        }
        if claims.exp <= self.now() {
            return Err(TokenRefusal::Expired);
        }
        Ok(claims)
    }

    pub(crate) fn knows_identity_token(&self, token: &str) -> bool {
        self.identity_tokens
            .get(token)
            .is_some_and(|expiry| *expiry > self.now())
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
        assert_eq!(state.check(&token).unwrap().uid, USER_ID);
        state.clock_skew = 61;
        assert_eq!(state.check(&token).unwrap_err(), TokenRefusal::Expired);
    }

    #[test]
    fn revocation_reaches_only_what_was_issued_before() {
        let mut state = State::new(Options::default());
        let old = state.issue(Grant::Token);
        state.revoke_all();
        let new = state.issue(Grant::Session);
        assert_eq!(state.check(&old).unwrap_err(), TokenRefusal::NotValid);
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
            TokenRefusal::NotValid
        );
    }
}
