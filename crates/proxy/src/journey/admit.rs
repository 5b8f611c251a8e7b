//! Admit: who may call, by where the request comes from and what it is addressed to. Whoever reaches a listener acts with
//! the credential, so a web page, a rebound DNS name or another unix user must not.

use std::{
    cell::RefCell,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    rc::Rc,
    str::FromStr,
};

use http::{HeaderName, HeaderValue, Method, header, request::Parts};

use super::{
    framing::{Framing, Unclear},
    survey::{Several, Survey},
};
use crate::{
    fault::{Fault, Rule},
    host::is_odd_number,
};

/// Whom a listener lets in.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// Names, besides the loopback ones, that a `Host` may carry; lower case, no port.
    pub hosts: Vec<String>,
    /// Foreign origins that a browser may call from; `scheme://host[:port]`, lower case.
    pub origins: Vec<String>,
    /// The unix users and groups that may call, on a unix socket.
    pub users: Option<Users>,
    /// Any `Host` will do: every caller proves itself by what a rebound name cannot bring along.
    pub any_host: bool,
    /// Whether clients speak TLS to this listener.
    pub tls: bool,
}

/// Unix users and groups, by number.
#[derive(Debug, Clone)]
pub struct Users {
    /// User ids.
    pub uids: Vec<u32>,
    /// Group ids.
    pub gids: Vec<u32>,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub enum Peer {
    /// A TCP connection.
    Tcp {
        /// The client's address.
        remote: SocketAddr,
        /// The address that it connected to.
        local: SocketAddr,
    },
    /// A unix socket; who it is according to the kernel.
    Unix {
        /// User id.
        uid: u32,
        /// Group id: the effective one at its connect, none of the others.
        gid: u32,
        /// Process id; none where the kernel has no number for it here, as for one of another PID namespace.
        pid: Option<u32>,
    },
}

/// As logs have it, without the port: `10.0.0.9`, `uid 1001 pid 4711`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { remote, .. } => write!(f, "{}", remote.ip().to_canonical()),
            Self::Unix { uid, pid, .. } => {
                write!(f, "uid {uid}")?;
                pid.map_or(Ok(()), |pid| write!(f, " pid {pid}"))
            }
        }
    }
}

impl Users {
    /// Whether the other end of a unix socket is one of them.
    pub fn include(&self, peer: &Peer) -> bool {
        match peer {
            Peer::Unix { uid, gid, .. } => self.uids.contains(uid) || self.gids.contains(gid),
            Peer::Tcp { .. } => false,
        }
    }
}

/// What was learnt about a caller that may pass.
#[derive(Debug)]
pub struct Admitted {
    /// What it calls us.
    pub host: Rc<Host>,
    /// The listed foreign origin that the call comes from, to be told to the browser in the answer.
    pub origin: Option<HeaderValue>,
    /// The browser only asks whether it may call.
    pub preflight: bool,
}

/// What a `Host` says.
#[derive(Debug)]
pub struct Host {
    /// As it came.
    authority: Box<[u8]>,
    /// Lower case, without port and brackets.
    pub name: String,
    /// The address that it is, if it is one.
    address: Option<IpAddr>,
}

/// The last `Host` that was read: nearly all clients of a worker say the same.
#[derive(Debug, Default)]
pub struct LastHost(RefCell<Option<Rc<Host>>>);

impl Host {
    fn parse(authority: &[u8]) -> Option<Self> {
        let name = host_of(str::from_utf8(authority).ok()?)?.to_ascii_lowercase();
        Some(Self {
            authority: authority.into(),
            address: IpAddr::from_str(&name).ok().map(|ip| ip.to_canonical()),
            name,
        })
    }
}

impl LastHost {
    fn read(&self, authority: &HeaderValue) -> Result<Rc<Host>, Fault> {
        let mut last = self.0.borrow_mut();
        match &*last {
            Some(host) if *host.authority == *authority.as_bytes() => Ok(Rc::clone(host)),
            _ => {
                let host = Host::parse(authority.as_bytes()).ok_or(Fault::BadRequest)?;
                Ok(Rc::clone(last.insert(Rc::new(host))))
            }
        }
    }
}

impl Admission {
    /// Lets the caller in, or names the rule that turns it away.
    ///
    /// # Errors
    /// `bad_request` for framing that can be read in two ways, and a missing, repeated or contradicted `Host`;
    /// `method_not_allowed` for `TRACE` and `CONNECT`; `caller_not_allowed` by the rules of host, origin and user.
    pub fn admit(
        &self,
        peer: &Peer,
        head: &Parts,
        headers: Survey<'_>,
        last_host: &LastHost,
    ) -> Result<Admitted, Fault> {
        Framing::of(headers, head.version).map_err(|Unclear| Fault::BadRequest)?;
        // Methods have a case, which not every server minds.
        let is = |method: &Method| head.method.as_str().eq_ignore_ascii_case(method.as_str());
        if is(&Method::TRACE) || is(&Method::CONNECT) {
            return Err(Fault::MethodNotAllowed);
        }
        if let (Some(users), Peer::Unix { .. }) = (&self.users, peer)
            && !users.include(peer)
        {
            return Err(Fault::CallerNotAllowed(Rule::User));
        }
        let authority = self.authority(head, headers)?;
        let host = last_host.read(authority)?;
        if !self.any_host && !self.answers_to(&host, peer) {
            return Err(Fault::CallerNotAllowed(Rule::Host));
        }
        let origin = self.origin(authority, &head.method, headers)?;
        let preflight = origin.is_some()
            && head.method == Method::OPTIONS
            && headers.has(&header::ACCESS_CONTROL_REQUEST_METHOD);
        Ok(Admitted {
            host,
            origin,
            preflight,
        })
    }

    /// The one `Host`; an absolute target must say the same.
    fn authority<'a>(&self, head: &Parts, headers: Survey<'a>) -> Result<&'a HeaderValue, Fault> {
        let Ok(Some(host)) = headers.only(&header::HOST) else {
            return Err(Fault::BadRequest);
        };
        if let Some(target) = head.uri.authority() {
            let scheme = if self.tls { "https" } else { "http" };
            let target = target.as_str().as_bytes();
            if head.uri.scheme_str() != Some(scheme)
                || !target.eq_ignore_ascii_case(host.as_bytes())
            {
                return Err(Fault::BadRequest);
            }
        }
        Ok(host)
    }

    /// DNS rebinding needs a name of the attacker's, so only names that cannot be one are answered to.
    fn answers_to(&self, host: &Host, peer: &Peer) -> bool {
        if host.name == "localhost" || self.hosts.contains(&host.name) {
            return true;
        }
        let Some(address) = host.address else {
            return false;
        };
        let came_in_on = match peer {
            Peer::Tcp { local, .. } => Some(local.ip().to_canonical()),
            Peer::Unix { .. } => None,
        };
        address.is_loopback() || came_in_on == Some(address)
    }

    /// Browsers name the page that calls: it must be ours, listed, or a person who follows a link.
    fn origin(
        &self,
        authority: &HeaderValue,
        method: &Method,
        headers: Survey<'_>,
    ) -> Result<Option<HeaderValue>, Fault> {
        let foreign = Err(Fault::CallerNotAllowed(Rule::Origin));
        let origin = match headers.only(&header::ORIGIN) {
            Ok(Some(origin)) => origin,
            Ok(None) => {
                let site = headers.first(&SEC_FETCH_SITE).map(HeaderValue::as_bytes);
                return match site {
                    None | Some(b"none" | b"same-origin") => Ok(None),
                    Some(_) if *method == Method::GET && is_navigation(headers) => Ok(None),
                    Some(_) => foreign,
                };
            }
            Err(Several) => return foreign,
        };
        let Ok(text) = origin.to_str() else {
            return foreign;
        };
        let text = text.to_ascii_lowercase();
        let scheme = if self.tls { "https" } else { "http" };
        let ours = text
            .strip_prefix(scheme)
            .and_then(|rest| rest.strip_prefix("://"))
            .is_some_and(|rest| rest.as_bytes().eq_ignore_ascii_case(authority.as_bytes()));
        match ours {
            true => Ok(None),
            false if self.origins.contains(&text) => Ok(Some(origin.clone())),
            false => foreign,
        }
    }
}

/// A person follows a link to a page, as opposed to a page that fetches.
fn is_navigation(headers: Survey<'_>) -> bool {
    let is = |name: HeaderName, value: &[u8]| {
        headers
            .first(&name)
            .is_some_and(|found| found.as_bytes() == value)
    };
    is(SEC_FETCH_MODE, b"navigate") && is(SEC_FETCH_DEST, b"document")
}

/// The host of `host[:port]` without port and brackets; `None` for anything else, userinfo and zones included.
pub fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            Ipv6Addr::from_str(address).ok()?;
            (
                address,
                if after.is_empty() {
                    None
                } else {
                    Some(after.strip_prefix(':')?)
                },
            )
        }
        None => {
            let (host, port) = match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            };
            let name =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            if host.is_empty() || !host.bytes().all(name) || is_odd_number(host) {
                return None;
            }
            (host, port)
        }
    };
    match port {
        None => Some(host),
        Some(digits) if digits.is_empty() || digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            (digits.is_empty() || digits.parse::<u16>().is_ok()).then_some(host)
        }
        Some(_) => None,
    }
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

#[cfg(test)]
mod tests;
