//! Attach: the credential is put on the request. The only place in the proxy where that happens.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, uri::PathAndQuery};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use smallvec::SmallVec;
use token_source::{Feed, Generation, Proof, Token, clock};
use tokio::time::Instant;

use super::{
    fingerprint::Fingerprint,
    needle::{Needle, masked},
    rewrite::{Target, take_out},
};
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
    /// Another value has been built before, and requests have gone out with it.
    was_replaced: Cell<bool>,
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
    /// Find the value in an answer.
    needles: Rc<[Needle]>,
}

/// A value as it stands on a request.
pub enum Form {
    /// A header.
    Header(HeaderName, HeaderValue),
    /// A pair of the query, percent-encoded.
    Query(Pair),
}

/// A pair of the query, and the last target that it was put on.
pub struct Pair {
    text: String,
    /// Without the pair, and with it. Whoever has a token in the query asks for the same page again and again, and checking
    /// that a target may stand in a request costs more than all else that is done to it.
    last: RefCell<Option<(String, PathAndQuery)>>,
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
            Place::Query { name } => Self::Query(Pair {
                text: format!(
                    "{}={}",
                    utf8_percent_encode(name, QUERY_VALUE),
                    utf8_percent_encode(value, QUERY_VALUE)
                ),
                last: RefCell::new(None),
            }),
        }
    }

    /// Puts it on a request that no longer has anything in its place.
    ///
    /// # Errors
    /// `bad_request` for a target that is none.
    pub fn put_on(&self, headers: &mut HeaderMap, target: &mut Target) -> Result<(), Fault> {
        match self {
            Self::Header(name, value) => drop(headers.insert(name, value.clone())),
            Self::Query(pair) => *target = Target::Attached(pair.behind(target)?),
        }
        Ok(())
    }
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair")
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
            was_replaced: Cell::new(false),
        }
    }

    /// Puts the value in force on a request that no longer has anything in its place.
    ///
    /// # Errors
    /// `credential_unavailable` when there is no valid value and none comes within `wait_for_token`; `bad_request` for a
    /// target that is none.
    pub async fn attach(
        &self,
        headers: &mut HeaderMap,
        target: &mut Target,
    ) -> Result<Rc<Built>, Fault> {
        let built = match self.in_force() {
            Some(built) => built,
            None => {
                // Boxed, since every request has room for what is not.
                let waited = Box::pin(self.attachment.feed.wait()).await;
                let token = waited.map_err(|none| Fault::CredentialUnavailable {
                    retry_after: none.retry_after,
                })?;
                self.build(&token)
            }
        };
        built.put_on(headers, target)?;
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
        let before = self.built.replace(Some(Rc::clone(&built)));
        if before.is_some_and(|before| before.generation != built.generation) {
            self.was_replaced.set(true);
        }
        built
    }

    /// Lets go of a value that is no longer in force. Says whether, since this was last asked, one has ceased to be.
    pub fn let_go(&self) -> bool {
        let current = self.attachment.feed.generation();
        let is_over = |built: &mut Rc<Built>| {
            built.generation != current || built.expires.is_some_and(|end| end <= clock::now())
        };
        let let_go = self.built.borrow_mut().take_if(is_over).is_some();
        self.was_replaced.take() || let_go
    }

    /// Lets go of any value: it is built again from the feed when it is needed.
    pub fn forget(&self) {
        self.built.take();
    }
}

impl Built {
    #[expect(
        clippy::disallowed_methods,
        reason = "the value is looked for in answers"
    )]
    fn new(token: &Token, place: &Place) -> Self {
        let value = token.value.expose_secret();
        // The padding of base64 is often left out, and says nothing.
        let needles = [
            Needle::new(value.trim_end_matches('=')),
            secret_of_pair(value, place).and_then(|secret| Needle::new(&secret)),
        ];
        Self {
            generation: token.generation,
            fingerprint: Fingerprint::of(value.as_bytes()),
            expires: token.expires,
            form: Form::new(&token.value, place),
            needles: needles.into_iter().flatten().collect(),
        }
    }

    /// Puts it on a request that has nothing else in its place.
    ///
    /// # Errors
    /// `bad_request` for a target that is none.
    pub fn put_on(&self, headers: &mut HeaderMap, target: &mut Target) -> Result<(), Fault> {
        self.form.put_on(headers, target)
    }

    /// What finds the value in an answer.
    pub fn needles(&self) -> Rc<[Needle]> {
        Rc::clone(&self.needles)
    }

    /// Whether the value stands in a text of an answer.
    pub fn stands_in(&self, text: &[u8]) -> bool {
        self.masked(text).is_some()
    }

    /// Overwrites the value with `*` wherever it stands in a header of an answer, and takes out a header that has it in
    /// its name; says whether it stood there.
    pub fn mask(&self, headers: &mut HeaderMap) -> bool {
        // No spelling is shorter than the value, and in most answers everything is.
        let shortest = self.needles.iter().map(Needle::size).min();
        let shortest = shortest.unwrap_or(usize::MAX);
        let mut lines = headers.iter();
        if lines.all(|(name, value)| name.as_str().len().max(value.len()) < shortest) {
            return false;
        }
        let mut found = take_out(headers, |name| {
            let name = name.as_str().as_bytes();
            self.needles
                .iter()
                .any(|needle| needle.stands_in_name(name))
        });
        for value in headers.values_mut() {
            if let Some(masked) = self.masked(value.as_bytes()) {
                *value = HeaderValue::from_bytes(&masked).expect("asterisks may stand in a header");
                found = true;
            }
        }
        found
    }

    fn masked(&self, text: &[u8]) -> Option<Vec<u8>> {
        masked(&*self.needles, text)
    }
}

/// The password or key in a value that is `user:key` in base64, which an upstream can tell as well as the whole.
fn secret_of_pair(value: &str, place: &Place) -> Option<Zeroizing<String>> {
    let Place::Header { scheme, .. } = place else {
        return None;
    };
    let is_pair = ["Basic", "ZenApiKey"]
        .iter()
        .any(|pairs| scheme.eq_ignore_ascii_case(pairs));
    let pair = Zeroizing::new(BASE64_STANDARD.decode(value).ok().filter(|_| is_pair)?);
    let (_, secret) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some(Zeroizing::new(secret.to_owned()))
}

impl std::fmt::Debug for Built {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Built")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl Pair {
    /// A target with the pair behind it.
    fn behind(&self, target: &Target) -> Result<PathAndQuery, Fault> {
        let mut last = self.last.borrow_mut();
        // Another credential must not be kept here, where nobody would let go of it.
        let is_kept = !matches!(target, Target::Attached(_));
        let target = target.as_str();
        if let Some((_, with)) = last.as_ref().filter(|(without, _)| without == target) {
            return Ok(with.clone());
        }
        let joint = match memchr::memchr(b'?', target.as_bytes()) {
            None => "?",
            Some(at) if at + 1 == target.len() || target.ends_with('&') => "",
            Some(_) => "&",
        };
        let with = checked([target, joint, &self.text].concat())?;
        if is_kept {
            *last = Some((target.to_owned(), with.clone()));
        }
        Ok(with)
    }
}

impl Target {
    fn as_str(&self) -> &str {
        match self {
            Self::AsItCame(target) | Self::Attached(target) => target.as_str(),
            Self::Rewritten(target) => target,
        }
    }

    /// The target as it goes upstream.
    ///
    /// # Errors
    /// `bad_request` when it cannot stand in a request line.
    pub fn into_path_and_query(self) -> Result<PathAndQuery, Fault> {
        match self {
            Self::AsItCame(target) | Self::Attached(target) => Ok(target),
            Self::Rewritten(target) => checked(target),
        }
    }
}

fn checked(target: String) -> Result<PathAndQuery, Fault> {
    PathAndQuery::from_maybe_shared(Bytes::from(target)).map_err(|_| Fault::BadRequest)
}

/// Everything but unreserved characters is encoded: no parser splits or decodes the value into another.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_put_on_each_target_and_keeps_no_other_credential() {
        let form =
            |value: &str, name: &str| Form::new(&value.into(), &Place::Query { name: name.into() });
        let (one, two) = (form("canary-one", "token"), form("canary-two", "key"));
        for (came, goes) in [
            ("/a", "/a?token=canary-one&key=canary-two"),
            ("/a", "/a?token=canary-one&key=canary-two"),
            ("/a?x=1", "/a?x=1&token=canary-one&key=canary-two"),
            ("/a?x=1&", "/a?x=1&token=canary-one&key=canary-two"),
            ("/a?", "/a?token=canary-one&key=canary-two"),
            ("/a", "/a?token=canary-one&key=canary-two"),
        ] {
            let mut target = Target::AsItCame(PathAndQuery::from_static(came));
            one.put_on(&mut HeaderMap::new(), &mut target).unwrap();
            two.put_on(&mut HeaderMap::new(), &mut target).unwrap();
            assert_eq!(target.into_path_and_query().unwrap(), goes, "{came}");
            let kept = |form: &Form| match form {
                Form::Query(pair) => pair
                    .last
                    .borrow()
                    .as_ref()
                    .map(|(_, with)| with.to_string()),
                Form::Header(..) => None,
            };
            assert!(kept(&one).is_some_and(|kept| goes.starts_with(&kept)));
            assert_eq!(kept(&two), None);
        }
    }

    #[test]
    fn what_is_attached_does_not_show() {
        let places = [
            Place::Query {
                name: "token".into(),
            },
            Place::Header {
                name: http::header::AUTHORIZATION,
                scheme: "Bearer".into(),
            },
        ];
        for place in places {
            let mut headers = HeaderMap::new();
            let mut target = Target::AsItCame(PathAndQuery::from_static("/snapshot"));
            let form = Form::new(&"canary-value".into(), &place);
            form.put_on(&mut headers, &mut target).unwrap();
            let shown = format!("{form:?} {headers:?} {target:?}");
            assert!(!shown.contains("canary"), "{shown}");
        }
    }
}
