//! Step 4: the credential is put on the request. The only place in the proxy where that happens.

use std::{cell::RefCell, rc::Rc};

use http::{HeaderMap, HeaderName, HeaderValue, uri::PathAndQuery};
use memchr::memmem::Finder;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use smallvec::SmallVec;
use token_source::{Feed, Generation, Proof, Token, clock};
use tokio::time::Instant;

use super::{fingerprint::Fingerprint, rewrite::Target};
use crate::{config::Place, fault::Fault};

/// Which credential is put where on the requests of a route.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Its feed.
    pub feed: Feed,
    /// Header or query.
    pub place: Place,
}

/// One worker's copy of an attachment, with the header value or query pair built once per generation.
#[derive(Debug)]
pub struct Attacher {
    attachment: Attachment,
    built: RefCell<Option<Rc<Built>>>,
}

/// What a request carries, in the route's order of attachments.
pub type Attached = SmallVec<[Rc<Built>; 2]>;

/// One generation of a credential, ready to be put on requests and to be found in answers.
pub struct Built {
    /// Which value of the credential it is.
    pub generation: Generation,
    /// Tells it from other values, in the log.
    pub fingerprint: Fingerprint,
    expires: Option<Instant>,
    form: Form,
    /// Finds the value in an answer, raw and percent-encoded.
    needles: SmallVec<[Finder<'static>; 2]>,
}

/// A value as it stands on a request.
pub enum Form {
    /// A header.
    Header(HeaderName, HeaderValue),
    /// A pair of the query, percent-encoded.
    Query(String),
}

impl Form {
    /// The form of a value that goes to this place; a value is visible ASCII.
    #[expect(
        clippy::disallowed_methods,
        reason = "the credential is put into the form in which it is attached"
    )]
    pub fn new(value: &SecretString, place: &Place) -> Self {
        let value = value.expose_secret();
        match place {
            Place::Header { name, scheme } => {
                let text = if scheme.is_empty() {
                    value.to_owned()
                } else {
                    format!("{scheme} {value}")
                };
                let mut header = HeaderValue::from_str(&text).expect("a token is visible ASCII");
                header.set_sensitive(true);
                Self::Header(name.clone(), header)
            }
            Place::Query { name } => Self::Query(format!(
                "{}={}",
                utf8_percent_encode(name, QUERY_VALUE),
                utf8_percent_encode(value, QUERY_VALUE)
            )),
        }
    }

    /// Puts it on a request that no longer has anything in its place.
    pub fn put_on(&self, headers: &mut HeaderMap, target: &mut Target) {
        match self {
            Self::Header(name, value) => drop(headers.insert(name, value.clone())),
            Self::Query(pair) => target.append_pair(pair),
        }
    }
}

impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Form")
    }
}

impl Attacher {
    /// A copy for one worker.
    pub fn new(attachment: Attachment) -> Self {
        Self {
            attachment,
            built: RefCell::new(None),
        }
    }

    /// Puts the value in force on a request that no longer has anything in its place.
    ///
    /// # Errors
    /// `credential_unavailable` when there is no valid value and none comes within `wait_for_token`.
    pub async fn attach(
        &self,
        headers: &mut HeaderMap,
        target: &mut Target,
    ) -> Result<Rc<Built>, Fault> {
        let built = match self.in_force() {
            Some(built) => built,
            None => {
                let waited = self.attachment.feed.wait().await;
                let token = waited.map_err(|none| Fault::CredentialUnavailable {
                    retry_after: none.retry_after,
                })?;
                self.build(&token)
            }
        };
        built.put_on(headers, target);
        Ok(built)
    }

    /// The value to send once more with after the upstream answered 401 to this one, if there is one.
    pub async fn after_rejection(&self, rejected: &Built) -> Option<Rc<Built>> {
        let feed = &self.attachment.feed;
        let token = feed.after_rejection(rejected.generation).await?;
        // One that is not in force is only tried: no other request is to see it.
        let is_in_force = token.generation == feed.generation();
        Some(match is_in_force {
            true => self.build(&token),
            false => Rc::new(Built::new(&token, &self.attachment.place)),
        })
    }

    /// Tells the keeper that the upstream answered 401 to this value, of a request that is not sent once more.
    pub fn reject(&self, rejected: &Built) {
        self.attachment.feed.reject(rejected.generation);
    }

    /// Tells what the answer says of the value that was sent instead of this one.
    pub fn replayed(&self, rejected: &Built, proof: Proof) {
        self.attachment.feed.replayed(rejected.generation, proof);
    }

    /// The value in force, if there is a valid one.
    pub fn in_force(&self) -> Option<Rc<Built>> {
        let feed = &self.attachment.feed;
        let current = feed.generation();
        let is_current = |built: &&Rc<Built>| {
            built.generation == current && built.expires.is_none_or(|end| clock::now() < end)
        };
        if let Some(built) = self.built.borrow().as_ref().filter(is_current) {
            return Some(Rc::clone(built));
        }
        let token = feed.current()?;
        Some(self.build(&token))
    }

    fn build(&self, token: &Token) -> Rc<Built> {
        let built = Rc::new(Built::new(token, &self.attachment.place));
        self.built.replace(Some(Rc::clone(&built)));
        built
    }
}

impl Built {
    #[expect(
        clippy::disallowed_methods,
        reason = "the value is looked for in answers"
    )]
    fn new(token: &Token, place: &Place) -> Self {
        let value = token.value.expose_secret();
        let encoded = utf8_percent_encode(value, QUERY_VALUE).to_string();
        let mut needles = SmallVec::new();
        // A short value would be found, and overwritten, where it is none; no real credential is that short.
        if value.len() >= SHORTEST_NEEDLE {
            needles.push(Finder::new(value).into_owned());
            if encoded != value {
                needles.push(Finder::new(&encoded).into_owned());
            }
        }
        Self {
            generation: token.generation,
            fingerprint: Fingerprint::of(value.as_bytes()),
            expires: token.expires,
            form: Form::new(&token.value, place),
            needles,
        }
    }

    /// Puts it on a request that has nothing else in its place.
    pub fn put_on(&self, headers: &mut HeaderMap, target: &mut Target) {
        self.form.put_on(headers, target);
    }

    /// Overwrites the value with `*` wherever it stands in a header of an answer; says whether it stood there.
    pub fn mask(&self, headers: &mut HeaderMap) -> bool {
        let mut found = false;
        for value in headers.values_mut() {
            for needle in &self.needles {
                let hits: SmallVec<[usize; 2]> = needle.find_iter(value.as_bytes()).collect();
                if hits.is_empty() {
                    continue;
                }
                let mut masked = value.as_bytes().to_vec();
                for at in hits {
                    masked[at..at + needle.needle().len()].fill(b'*');
                }
                *value = HeaderValue::from_bytes(&masked).expect("asterisks may stand in a header");
                found = true;
            }
        }
        found
    }
}

impl std::fmt::Debug for Built {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Built")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl Target {
    fn append_pair(&mut self, pair: &str) {
        let target = match self {
            Self::AsItCame(target) => target.as_str(),
            Self::Rewritten(target) => target.as_str(),
        };
        let joint = match target.find('?') {
            None => "?",
            Some(at) if at + 1 == target.len() || target.ends_with('&') => "",
            Some(_) => "&",
        };
        *self = Self::Rewritten(format!("{target}{joint}{pair}"));
    }

    /// The target as it goes upstream.
    ///
    /// # Errors
    /// `bad_request` when it cannot stand in a request line.
    pub fn into_path_and_query(self) -> Result<PathAndQuery, Fault> {
        match self {
            Self::AsItCame(target) => Ok(target),
            Self::Rewritten(target) => PathAndQuery::from_maybe_shared(bytes::Bytes::from(target))
                .map_err(|_| Fault::BadRequest),
        }
    }
}

/// Everything but unreserved characters is encoded: no parser splits or decodes the value into another.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

const SHORTEST_NEEDLE: usize = 8;

#[cfg(test)]
impl Attachment {
    /// Something attached as `Authorization`, whose value never comes.
    pub(super) fn for_tests() -> Vec<Self> {
        let settings = token_source::Settings {
            name: "test".into(),
            kind: token_source::Kind::Token {
                value: token_source::Location::Env("NEVER_SET".into()),
            },
            lifetime: None,
            wait_for_token: None,
            poll: std::time::Duration::from_secs(5),
        };
        let (_, feed) = token_source::Keeper::new(settings);
        let place = Place::Header {
            name: http::header::AUTHORIZATION,
            scheme: "Bearer".into(),
        };
        vec![Self { feed, place }]
    }
}
