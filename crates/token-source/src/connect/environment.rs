//! The proxies that the environment names: `HTTPS_PROXY`, `HTTP_PROXY` and `ALL_PROXY`, in capitals or not.
//!
//! They are read here and not by the library that knows `NO_PROXY`: what that does not understand is no proxy to it, and
//! the way would lead past the one that was meant.

use std::ffi::{OsStr, OsString};

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::percent_decode_str;

use super::{EgressProxy, Origin};

/// A variable that names a proxy and is not understood. To go directly instead would be to evade the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// Not `[http://|socks5://][user:password@]host[:port]`.
    #[error("{0} is not the URL of a proxy")]
    Malformed(&'static str),
    /// A proxy that is spoken to in another way, such as `https` or `socks4`.
    #[error("{0} names a proxy of a kind that is not supported")]
    Scheme(&'static str),
    /// A character in user or password that ends them, so that it is not known which part is secret.
    #[error("the user or password in {0} is not percent-encoded")]
    Userinfo(&'static str),
}

impl EnvironmentError {
    /// The variable.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Malformed(name) | Self::Scheme(name) | Self::Userinfo(name) => name,
        }
    }

    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Scheme(_) => {
                "http://host:port or socks5://host:port; or proxy = \"none\", which goes without"
            }
            Self::Userinfo(_) => {
                "of what may stand in a password, write `@` as %40, `/` as %2F, `:` as %3A, `?` as %3F, `#` as %23, a space as %20"
            }
        }
    }
}

/// The proxy that the environment wants on the way to a server; `None`: directly.
pub(super) fn way(
    origin: &Origin,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<EgressProxy>, EnvironmentError> {
    let own = match origin.tls {
        true => ["HTTPS_PROXY", "https_proxy"],
        false => ["HTTP_PROXY", "http_proxy"],
    };
    let set = |name| Some((name, variable(name).filter(|value| !value.is_empty())?));
    let named = own.into_iter().chain(["ALL_PROXY", "all_proxy"]);
    let Some((name, value)) = named.into_iter().find_map(set) else {
        return Ok(None);
    };
    let exempt = ["NO_PROXY", "no_proxy"].into_iter().find_map(set);
    let exempt = exempt.map(|(_, list)| list).unwrap_or_default();
    if is_exempt(origin, &exempt) {
        return Ok(None);
    }
    let value = value.to_str().ok_or(EnvironmentError::Malformed(name))?;
    parse(name, value).map(Some)
}

fn is_exempt(origin: &Origin, list: &OsStr) -> bool {
    let server = Origin {
        host: origin.host.trim_end_matches('.').to_owned(),
        base_path: String::new(),
        ..origin.clone()
    };
    let all = Matcher::builder()
        .all("http://proxy")
        .no(list.to_string_lossy().into_owned())
        .build();
    let server = Uri::try_from(server.url());
    server.is_ok_and(|server| all.intercept(&server).is_none())
}

fn parse(name: &'static str, value: &str) -> Result<EgressProxy, EnvironmentError> {
    // As curl has it.
    let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
    let (authority, after) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let (login, host) = match authority.split_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, authority),
    };
    // In a URL that was meant in another way, what stands for the host may be a part of the password.
    let is_clear = login.is_none_or(|login| login.bytes().all(|byte| byte.is_ascii_graphic()));
    if after.contains('@') || host.contains('@') || !is_clear {
        return Err(EnvironmentError::Userinfo(name));
    }
    if !EgressProxy::speaks(scheme) {
        return Err(EnvironmentError::Scheme(name));
    }
    let proxy = EgressProxy::parse(&format!("{scheme}://{host}"));
    let proxy = proxy.ok_or(EnvironmentError::Malformed(name))?;
    let Some(login) = login else {
        return Ok(proxy);
    };
    let (username, password) = login.split_once(':').unwrap_or((login, ""));
    let decoded = |part| percent_decode_str(part).decode_utf8();
    match (decoded(username), decoded(password)) {
        (Ok(username), Ok(password)) => {
            Ok(proxy.with_known_login(username.into_owned(), password.into_owned().into()))
        }
        _ => Err(EnvironmentError::Userinfo(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way to a server where these variables are set.
    fn way_to(url: &str, variables: &[(&str, &str)]) -> Result<Option<String>, EnvironmentError> {
        let origin = Origin::parse(url, Default::default()).unwrap();
        let variable = |name: &str| {
            let mut all = variables.iter();
            all.find(|(set, _)| *set == name)
                .map(|(_, value)| value.into())
        };
        way(&origin, variable).map(|way| way.map(|proxy| proxy.url()))
    }

    #[test]
    fn the_environment_says_which_servers_are_reached_how() {
        let variables = [
            ("HTTPS_PROXY", "http://user:secret@egress:3128"),
            ("http_proxy", "socks5://socks"),
            ("NO_PROXY", ".cluster.local,10.0.0.0/8"),
        ];
        let way = |url| way_to(url, &variables).unwrap();
        let through = |proxy: &str| Some(proxy.to_owned());
        assert_eq!(way("https://a.example.com"), through("http://egress:3128"));
        assert_eq!(way("http://a.example.com"), through("socks5://socks:1080"));
        assert_eq!(way("https://x.svc.cluster.local"), None);
        assert_eq!(way("https://10.1.2.3"), None);
    }

    #[test]
    fn what_is_set_empty_is_not_set_and_all_proxy_stands_for_both() {
        let variables = [
            ("HTTPS_PROXY", ""),
            ("https_proxy", ""),
            ("ALL_PROXY", "egress:80"),
        ];
        let through = Ok(Some("http://egress:80".to_owned()));
        assert_eq!(way_to("https://a", &variables), through);
        assert_eq!(way_to("http://a", &variables), through);
        assert_eq!(way_to("https://a", &[]), Ok(None));
    }

    #[test]
    fn a_variable_that_is_not_understood_is_never_no_proxy() {
        use EnvironmentError::{Malformed, Scheme, Userinfo};
        let name = "ALL_PROXY";
        for (value, wrong) in [
            ("socks://egress:1080", Scheme(name)),
            ("socks4://egress:1080", Scheme(name)),
            ("https://egress", Scheme(name)),
            ("garbage value", Malformed(name)),
            ("http://egress:99999", Malformed(name)),
            ("http://egress:0", Malformed(name)),
            ("http://egress:", Malformed(name)),
            ("http://", Malformed(name)),
            ("http://[::1", Malformed(name)),
            ("http://user:s3c retpw@egress", Userinfo(name)),
            ("http://user:aa@s3cfrag/bb@egress:9", Userinfo(name)),
            ("http://user:aa/s3cfrag@egress:9", Userinfo(name)),
            ("http://user:aa#s3cfrag@egress:9", Userinfo(name)),
            ("http://user:aa\\s3cfrag@egress:9", Userinfo(name)),
            ("http://user:s3c@retpw@egress", Userinfo(name)),
            ("http://user:%ff@egress", Userinfo(name)),
        ] {
            for server in ["https://a", "http://a"] {
                let way = way_to(server, &[(name, value)]);
                assert_eq!(way, Err(wrong), "{value}");
            }
            let told = format!("{wrong} {wrong:?} {}", wrong.hint());
            assert!(!told.contains("s3c"), "{told}");
            // It is not asked about what is exempt.
            let exempt = [(name, value), ("no_proxy", "a")];
            assert_eq!(way_to("https://a", &exempt), Ok(None));
        }
    }

    #[test]
    fn a_login_is_decoded_and_not_shown() {
        let proxy = parse("HTTPS_PROXY", "http://us%40er:s%3Ac%2Fret@egress/").unwrap();
        let known = proxy.known_login().unwrap();
        assert_eq!(known, ("us@er".to_owned(), "s:c/ret".to_owned()));
        assert_eq!(proxy.url(), "http://egress:3128");
        assert!(!format!("{proxy:?}").contains("ret\""), "{proxy:?}");
        let proxy = parse("HTTPS_PROXY", "user@egress").unwrap();
        assert_eq!(
            proxy.known_login().unwrap(),
            ("user".to_owned(), String::new())
        );
    }

    #[test]
    fn a_final_dot_makes_no_other_server() {
        for (server, list) in [
            ("https://trail.test.", "trail.test"),
            ("https://a.trail.test.", ".trail.test"),
            ("https://trail.test", "trail.test"),
        ] {
            let variables = [("HTTPS_PROXY", "egress"), ("NO_PROXY", list)];
            assert_eq!(way_to(server, &variables), Ok(None), "{server} {list}");
        }
    }
}
