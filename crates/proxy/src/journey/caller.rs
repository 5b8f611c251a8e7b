//! Admit, its second half: which caller it is, where a listener asks for one. By what its connection shows (network,
//! unix user, client certificate), and by the key that the request carries.

use std::{sync::Arc, time::SystemTime};

use arc_swap::ArcSwapOption;
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use secrecy::zeroize::Zeroizing;
use smallvec::SmallVec;
use subtle::{Choice, ConstantTimeEq as _};
use token_source::tls::Certificate;

use super::{
    Client,
    admit::{Peer, Users},
    fingerprint::Fingerprint,
    rate::Rate,
};
use crate::{
    config::CertificateName,
    fault::{Fault, Rule},
};

/// Who may call: all that is asked of it must hold.
#[derive(Debug)]
pub struct Caller {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Its keys, of which one is enough; none where no key is asked for.
    pub keys: Vec<Arc<KeyCell>>,
    /// Names, one of which its certificate must have.
    pub certificates: Vec<CertificateName>,
    /// Networks, one of which it must come from.
    pub networks: Vec<IpNet>,
    /// Its unix users and groups.
    pub users: Option<Users>,
    /// Indexes into the plan's routes of what it may reach; `None`: all.
    pub reaches: Option<Vec<usize>>,
    /// How often it may call.
    pub rate: Option<Rate>,
    /// Where it says for whom it calls.
    pub identity_header: Option<HeaderName>,
}

/// A key in force, which workers read without a lock; empty as long as there is none.
#[derive(Debug, Default)]
pub struct KeyCell(ArcSwapOption<Fingerprint>);

/// Those who may come at a listener; none where it asks for none.
#[derive(Debug, Default)]
pub struct Callers {
    all: Vec<Arc<Caller>>,
    asks_for_keys: bool,
}

/// The names in a client's certificate, which the listener's `client_ca` has vouched for. Never the common name.
#[derive(Debug)]
pub struct CertificateNames {
    dns: Vec<String>,
    uris: Vec<String>,
    until: SystemTime,
}

impl Callers {
    /// Those who may come, in the listener's order.
    pub fn new(all: Vec<Arc<Caller>>) -> Self {
        Self {
            asks_for_keys: all.iter().any(|caller| !caller.keys.is_empty()),
            all,
        }
    }

    /// Whether a request comes in by what a rebound name could not bring along: then the Host says nothing.
    pub fn are_all_proved(&self) -> bool {
        let is_proved =
            |caller: &Arc<Caller>| !caller.keys.is_empty() || !caller.certificates.is_empty();
        !self.all.is_empty() && self.all.iter().all(is_proved)
    }

    /// The first caller of which everything holds; the header with the key is taken out. `None` where nobody is asked
    /// who he is.
    ///
    /// # Errors
    /// `caller_not_allowed`: by `key` only where the connection is that of a caller with a key, so that nobody learns
    /// elsewhere whether a key is right.
    pub fn recognise(
        &self,
        client: &dyn Client,
        headers: &mut HeaderMap,
    ) -> Result<Option<&Arc<Caller>>, Fault> {
        if self.all.is_empty() {
            return Ok(None);
        }
        let presented = match self.asks_for_keys {
            true => self.take_key(headers),
            false => None,
        };
        let (mut found, mut rule) = (None, None);
        for caller in &self.all {
            let missing = match caller.wants_of_connection(client) {
                Some(missing) => missing,
                // Compared even where the caller is known by now, so that the time says nothing.
                None if caller.opens(presented.as_ref()) => {
                    found = found.or(Some(caller));
                    continue;
                }
                None => Rule::Key,
            };
            if rule.is_none() || missing == Rule::Key {
                rule = Some(missing);
            }
        }
        match (found, rule) {
            (None, Some(rule)) => Err(Fault::CallerNotAllowed(rule)),
            (found, _) => Ok(found),
        }
    }

    /// The key that a request carries: in `X-Proxy-Key`, else as a Bearer token or Basic's password. The header is taken
    /// out, right or wrong, for it must not go on. An `Authorization` beside `X-Proxy-Key`, or of a scheme that has no room
    /// for a key, is the client's own and stays, where it is sure that no key is in it.
    fn take_key(&self, headers: &mut HeaderMap) -> Option<Fingerprint> {
        let of_its_own = headers.get_all(PROXY_KEY).iter();
        let of_its_own: Fingerprints = of_its_own
            .map(|key| Fingerprint::of(key.as_bytes()))
            .collect();
        let authorization = headers.get_all(header::AUTHORIZATION).iter();
        let authorization: Fingerprints = authorization
            .filter_map(key_in)
            .map(|key| Fingerprint::of(&key))
            .collect();
        let is_own = !of_its_own.is_empty();
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let goes_on = match (values.next(), values.next()) {
            (Some(value), None) => {
                (is_own || authorization.is_empty()) && self.is_free_of_keys(value.as_bytes())
            }
            _ => false,
        };
        headers.remove(PROXY_KEY);
        if !goes_on {
            headers.remove(header::AUTHORIZATION);
        }
        let keys = if is_own { of_its_own } else { authorization };
        // Two of them are none: which one would be meant?
        match keys[..] {
            [key] => Some(key),
            _ => None,
        }
    }

    /// Whether an `Authorization` is one scheme and one value, and neither that nor the user or password in it is a key of
    /// anybody's. Anything else could hide one from this look, and not from the next reader's.
    fn is_free_of_keys(&self, authorization: &[u8]) -> bool {
        let Some((scheme, value)) = scheme_and_value(authorization) else {
            return false;
        };
        let pair = AS_IT_COMES.decode(value).map(Zeroizing::new).ok();
        if pair.is_none() && scheme.eq_ignore_ascii_case(b"basic") {
            return false;
        }
        let pair = pair.as_ref().map_or(&[][..], |pair| pair.as_slice());
        let (user, password) = match memchr::memchr(b':', pair) {
            Some(colon) => (&pair[..colon], &pair[colon + 1..]),
            None => (pair, &[][..]),
        };
        let places = [value, pair, user, password].map(Fingerprint::of);
        let is_key = |key: &Fingerprint| any(self.all.iter().map(|caller| caller.has(key)));
        !bool::from(any(places.iter().map(is_key)))
    }
}

impl Caller {
    /// Whether it may reach a route, by its index in the plan.
    pub fn may_reach(&self, route: usize) -> bool {
        (self.reaches.as_ref()).is_none_or(|reached| reached.contains(&route))
    }

    /// For whom it says that it calls, as that may be shown.
    pub fn identity(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        headers.get(self.identity_header.as_ref()?).cloned()
    }

    /// What of the connection is not as it must be.
    fn wants_of_connection(&self, client: &dyn Client) -> Option<Rule> {
        let peer = client.peer();
        if !self.networks.is_empty() && !self.comes_from_network(&peer) {
            return Some(Rule::Network);
        }
        if self
            .users
            .as_ref()
            .is_some_and(|users| !users.include(&peer))
        {
            return Some(Rule::User);
        }
        let is_named = |names: &CertificateNames| {
            names.still_hold() && self.certificates.iter().any(|name| names.contain(name))
        };
        let is_shown = self.certificates.is_empty() || client.certificate().is_some_and(is_named);
        (!is_shown).then_some(Rule::Certificate)
    }

    fn comes_from_network(&self, peer: &Peer) -> bool {
        let Peer::Tcp { remote, .. } = peer else {
            return false;
        };
        let address = remote.ip().to_canonical();
        self.networks
            .iter()
            .any(|network| network.contains(&address))
    }

    /// Whether a key opens, where one is asked for.
    fn opens(&self, presented: Option<&Fingerprint>) -> bool {
        match presented {
            _ if self.keys.is_empty() => true,
            Some(presented) => self.has(presented).into(),
            None => false,
        }
    }

    /// Whether it is one of its keys; all of them are compared.
    fn has(&self, presented: &Fingerprint) -> Choice {
        any(self.keys.iter().map(|cell| cell.is(presented)))
    }
}

impl KeyCell {
    /// Puts a key in force, or none; whether that is another than before.
    pub fn put(&self, key: Option<Fingerprint>) -> bool {
        let before = self.0.swap(key.map(Arc::new));
        match (before, key) {
            (Some(before), Some(key)) => !bool::from(before.ct_eq(&key)),
            (before, key) => before.is_some() != key.is_some(),
        }
    }

    /// Whether there is one.
    pub fn is_in_force(&self) -> bool {
        self.0.load().is_some()
    }

    fn is(&self, presented: &Fingerprint) -> Choice {
        match &*self.0.load() {
            Some(key) => key.ct_eq(presented),
            None => Choice::from(0),
        }
    }
}

impl CertificateNames {
    /// The names in a certificate, the first of a chain that has been checked. `None` where there is none.
    pub fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let (leaf, others) = chain.split_first()?;
        let names = webpki::EndEntityCert::try_from(leaf).ok()?;
        let now = SystemTime::now();
        // One that was over at the handshake has not vouched for anything.
        let others = others.iter().filter_map(|one| Certificate::read(one));
        let others = others.map(|one| one.not_after).filter(|end| *end >= now);
        let end = Certificate::read(leaf)?.not_after;
        Some(Self {
            dns: names
                .valid_dns_names()
                .map(str::to_ascii_lowercase)
                .collect(),
            uris: names.valid_uri_names().map(str::to_owned).collect(),
            until: others.fold(end, SystemTime::min),
        })
    }

    /// A connection may live for longer than the certificate that was shown on it.
    fn still_hold(&self) -> bool {
        SystemTime::now() <= self.until
    }

    /// A wildcard stands for itself: a client has a name, it does not answer to many.
    fn contain(&self, name: &CertificateName) -> bool {
        match name {
            CertificateName::Dns(name) => self.dns.contains(name),
            CertificateName::Uri(name) => self.uris.contains(name),
        }
    }
}

/// Whether one of them is; all are looked at, so that the time says nothing.
fn any(choices: impl Iterator<Item = Choice>) -> Choice {
    choices.fold(Choice::from(0), |any, one| any | one)
}

/// A word, one space, and what RFC 9110 calls `token68`; `None` for anything else.
fn scheme_and_value(authorization: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr::memchr(b' ', authorization)?;
    let (scheme, value) = (&authorization[..space], &authorization[space + 1..]);
    let is_of_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_of_value = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    let is_clean = !scheme.is_empty()
        && scheme.iter().all(is_of_scheme)
        && !value.is_empty()
        && value.iter().all(is_of_value);
    is_clean.then_some((scheme, value))
}

/// The key in an `Authorization`, if its scheme has room for one.
fn key_in(value: &HeaderValue) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = value.as_bytes();
    let space = memchr::memchr(b' ', bytes)?;
    let (scheme, rest) = bytes.split_at(space);
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(Zeroizing::new(rest.to_vec()));
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    // What is not base64 is a wrong key, and does not go on either.
    let pair = Zeroizing::new(BASE64_STANDARD.decode(rest).unwrap_or_default());
    let colon = memchr::memchr(b':', &pair);
    let password = colon.map_or(&[][..], |colon| &pair[colon + 1..]);
    Some(Zeroizing::new(password.to_vec()))
}

/// Padded or not: some readers take either.
const AS_IT_COMES: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

type Fingerprints = SmallVec<[Fingerprint; 1]>;

/// The proxy's own header for keys.
pub const PROXY_KEY: HeaderName = HeaderName::from_static("x-proxy-key");

#[cfg(test)]
mod tests;
