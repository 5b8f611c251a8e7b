//! What is written arrives: the configuration that a right file becomes.

use super::{line_of, load, with};
use crate::config::{CertificateName, ListenAddress, ListenerTls, Place, TokenEndpoints};

#[test]
fn each_word_on_what_may_pass_opens_a_listener() {
    let open = "[listener.open]\naddress = \"0.0.0.0:80\"\nanyone = true\n";
    for word in [
        "preset = \"watsonx\"",
        "allow = [\"/v2/*\"]",
        "allow = [\"*\"]",
    ] {
        load(&format!("{}{word}\n", with(open))).unwrap();
    }
}

#[test]
fn a_login_may_be_elsewhere_if_the_upstream_is_named() {
    let text = r#"
[upstream.other]
url = "https://other.example.com"
[credential.e.cp4d]
url = "https://login.example.com/icp4d-api"
upstream = "other"
username = "u"
api_key = { env = "K" }
[route.other]
path = "/o"
upstream = "other"
attach = "e"
"#;
    let loaded = load(&with(text)).unwrap();
    let token_source::Kind::Cp4d { origin, .. } = &loaded.config.credentials[0].kind else {
        panic!()
    };
    assert_eq!(
        (origin.host.as_str(), origin.base_path.as_str()),
        ("login.example.com", "")
    );
}

#[test]
fn the_license_preset_puts_each_kind_in_its_place() {
    let text = r#"
[credential.url.token]
value = { env = "T" }
[credential.pod.service_account]
[route.url]
path = "/url"
upstream = "base"
attach = "url"
preset = "license-service"
[route.pod]
path = "/pod"
upstream = "base"
attach = [{ credential = "pod" }]
preset = "license-service"
strip_prefix = false
allow = ["GET /snapshot"]
"#;
    let config = load(&with(text)).unwrap().config;
    let [url, pod, _] = &config.routes[..] else {
        panic!()
    };
    assert_eq!(
        url.attach[0].place,
        Place::Query {
            name: "token".into()
        }
    );
    assert_eq!(url.drop_query, ["token"]);
    assert!(url.strip_prefix);
    assert_eq!(url.allow.as_ref().map(Vec::len), Some(7));
    assert_eq!(url.public.len(), 1);
    let bearer = Place::Header {
        name: http::header::AUTHORIZATION,
        scheme: "Bearer".into(),
    };
    assert_eq!(pod.attach[0].place, bearer);
    assert!(!pod.strip_prefix, "the route's own word goes first");
    assert_eq!(pod.allow.as_ref().map(Vec::len), Some(1));
}

#[test]
fn bodies_are_searched_where_the_credential_stands_in_the_url() {
    let text = r#"
[credential.url.token]
value = { env = "T" }
[route.default]
path = "/default"
upstream = "base"
attach = [{ credential = "url", query = "token" }]
[route.waived]
path = "/waived"
upstream = "base"
attach = [{ credential = "url" }, { credential = "url", query = "token" }]
scrub_body = false
[route.header]
path = "/header"
upstream = "base"
attach = "url"
[route.off]
path = "/off"
upstream = "base"
attach = "url"
scrub_body = false
[route.on]
path = "/on"
upstream = "base"
attach = "url"
scrub_body = true
"#;
    let config = load(&with(text)).unwrap().config;
    let searched: Vec<_> = (config.routes.iter())
        .filter(|route| route.scrub_body)
        .map(|route| &*route.name)
        .collect();
    assert_eq!(searched, ["default", "on"]);
    let waived = config.waivers.iter().find(|w| w.kind == "scrub_body");
    assert_eq!(waived.unwrap().place, "route.waived");
    let all = config.waivers.iter().filter(|w| w.kind == "scrub_body");
    assert_eq!(all.count(), 1, "off is no waiver where it is the default");
}

#[test]
fn what_is_written_arrives() {
    let text = r#"
workers = 3
drain_timeout = "1m"
poll = "2s"
[log]
format = "json"
[admin]
address = "localhost:9191"
[listener.sock]
address = "unix:proxy.sock"
mode = "0660"
gids = [7]
[listener.tls]
address = "localhost:8443"
tls = { self_signed = true }
hosts = ["Proxy.Internal"]
max_head_size = "16KiB"
[listener.any]
address = "0.0.0.0:80"
anyone = true
routes = ["limited"]
[upstream.lab]
url = "http://lab:81/base/"
plain_http = true
[upstream.careless]
url = "https://careless"
tls = { insecure = true }
[route.limited]
path = "/a%20b/"
host = "X.example"
upstream = "lab"
allow = ["*"]
token_endpoints = "forward"
default_query = { "a b" = "c&d" }
max_body = "10MB"
"#;
    let config = load(&with(text)).unwrap().config;
    assert_eq!(config.workers.get(), 3);
    assert_eq!(config.drain_timeout.as_secs(), 60);
    assert_eq!(config.credentials[0].poll.as_secs(), 2);
    assert_eq!(config.log.json, Some(true));
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9191");
    let [sock, tls, any, _] = &config.listeners[..] else {
        panic!()
    };
    let socket = ListenAddress::Unix {
        path: "/no/such/folder/proxy.sock".into(),
        mode: 0o660,
        uids: vec![],
        gids: vec![7],
    };
    assert_eq!(sock.address, socket);
    assert_eq!(
        tls.address,
        ListenAddress::Tcp(vec![
            "127.0.0.1:8443".parse().unwrap(),
            "[::1]:8443".parse().unwrap()
        ])
    );
    assert_eq!(
        (tls.tls.clone(), tls.max_head_size),
        (Some(ListenerTls::SelfSigned), 16384)
    );
    assert_eq!(tls.hosts, ["proxy.internal"]);
    assert_eq!(
        (tls.routes.as_slice(), any.routes.as_slice()),
        (&[0, 1][..], &[0][..])
    );
    assert_eq!(config.upstreams[0].origin.base_path, "/base");
    let limited = &config.routes[0];
    assert_eq!(
        (limited.prefix.as_slice(), limited.host.as_deref()),
        (&["a b".to_owned()][..], Some("x.example"))
    );
    assert_eq!(limited.allow, None);
    assert_eq!(limited.token_endpoints, TokenEndpoints::Forward);
    assert_eq!(
        limited.default_query,
        [("a%20b".to_owned(), "c%26d".to_owned())]
    );
    assert_eq!(limited.max_body, Some(10_000_000));
    assert!(limited.attach.is_empty());
    let waivers: Vec<_> = config
        .waivers
        .iter()
        .map(|w| (w.kind, w.place.as_str()))
        .collect();
    let expected = [
        ("plain_http", "upstream.lab"),
        ("insecure", "upstream.careless"),
        ("allow_all", "route.limited"),
        ("forward", "route.limited"),
        ("anyone", "listener.any"),
    ];
    assert_eq!(waivers, expected);
}

#[test]
fn a_warning_is_a_mistake_when_strict() {
    let text = with("");
    let folder = std::path::Path::new("/");
    let strict = |strict| {
        crate::config::Config::parse(&text, "proxy.toml", folder, strict, &super::nothing())
    };
    assert_eq!(strict(false).unwrap().warnings.len(), 1);
    assert_eq!(strict(true).unwrap_err().mistakes.len(), 1);
}

#[test]
fn a_route_that_no_listener_serves_is_a_warning() {
    let text = r#"
[listener.a]
address = "127.0.0.1:1"
routes = ["a"]
[upstream.u]
url = "https://u"
[route.a]
path = "/a"
upstream = "u"
[route.b]
path = "/a"
upstream = "u"
"#;
    let warnings = load(text).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(
        (line_of(&warnings[0]), warnings[0].what.as_str()),
        (10, "no listener serves this route")
    );
}

#[test]
fn a_credential_that_no_route_attaches_is_a_warning() {
    let text = "[credential.idle.token]\nvalue = { file = \"/\" }\n";
    let warnings = load(&with(text)).unwrap().warnings;
    let told: Vec<_> = warnings
        .iter()
        .map(|warning| (line_of(warning), warning.what.as_str()))
        .collect();
    assert!(
        told.contains(&(1, "no route attaches this credential")),
        "{told:?}"
    );
}

#[test]
fn a_credential_goes_to_other_parts_of_its_server() {
    let text = r#"
[upstream.below]
url = "https://cpd.example.com/ml"
[upstream.twin]
url = "https://cpd.example.com"
[credential.free.token]
value = { env = "T" }
[route.first]
path = "/f"
upstream = "base"
attach = [{ credential = "base" }, { credential = "free", header = "T" }]
[route.below]
path = "/b"
upstream = "below"
attach = [{ credential = "base" }, { credential = "free", header = "T" }]
[route.twin]
path = "/t"
upstream = "twin"
attach = "base"
"#;
    load(&with(text)).unwrap();
}

#[test]
fn what_only_resembles_a_credential_may_be_set() {
    let text = r#"
[route.new]
path = "/"
upstream = "base"
set_headers = { AuthInstanceId = "crn:v1", LhInstanceId = "17", X-IBM-Project-ID = "7e0e", X-Author = "eyJ.x" }
default_query = { version = "2025-02-01", keyword = "a" }
"#;
    load(&with(text)).unwrap();
}

#[test]
fn what_is_written_of_callers_arrives() {
    let text = r#"
[caller.alice]
key = [{ env = "A" }, { env = "B" }]
certificate = ["Alice.Internal", "spiffe://example.org/Alice"]
networks = ["10.0.0.0/8", "::ffff:192.0.2.0/120", "192.0.2.7", "fd00::/8"]
routes = ["limited"]
rate_limit = "600/m burst 50"
identity_header = "X-Forwarded-User"
[caller.bob]
key = { env = "C" }
[caller.carol]
uids = [1001]
gids = [7, 8]
[listener.open]
address = "0.0.0.0:80"
callers = ["bob", "alice"]
routes = ["limited"]
tls = { certificate = "a", key = "b", client_ca = "c" }
[listener.clear]
address = "0.0.0.0:81"
callers = ["bob"]
routes = ["limited"]
[listener.sock]
address = "unix:a"
callers = ["carol", "bob"]
[route.limited]
path = "/l"
upstream = "base"
allow = ["/a"]
rate_limit = "5/h"
"#;
    let loaded = load(&with(text)).unwrap();
    let config = loaded.config;
    let [alice, bob, carol] = &config.callers[..] else {
        panic!()
    };
    assert_eq!(
        (alice.keys.len(), bob.keys.len(), carol.keys.len()),
        (2, 1, 0)
    );
    let names = [
        CertificateName::Dns("alice.internal".into()),
        CertificateName::Uri("spiffe://example.org/Alice".into()),
    ];
    assert_eq!(alice.certificates, names);
    let networks: Vec<_> = alice.networks.iter().map(ToString::to_string).collect();
    assert_eq!(
        networks,
        ["10.0.0.0/8", "192.0.2.0/24", "192.0.2.7/32", "fd00::/8"]
    );
    assert_eq!(
        (alice.routes.as_deref(), bob.routes.as_deref()),
        (Some(&[0][..]), None)
    );
    let rate = alice.rate_limit.unwrap();
    assert_eq!(
        (rate.times.get(), rate.per.as_secs(), rate.burst.get()),
        (600, 60, 50)
    );
    assert_eq!(alice.identity_header.as_ref().unwrap(), "x-forwarded-user");
    assert_eq!(
        (carol.uids.as_slice(), carol.gids.as_slice()),
        (&[1001][..], &[7, 8][..])
    );
    let [open, clear, sock, base] = &config.listeners[..] else {
        panic!()
    };
    assert_eq!(
        (open.callers.as_slice(), sock.callers.as_slice()),
        (&[1, 0][..], &[2, 1][..])
    );
    assert_eq!(
        open.client_ca.as_deref(),
        Some(std::path::Path::new("/no/such/folder/c"))
    );
    assert_eq!(
        (clear.callers.as_slice(), base.callers.len()),
        (&[1][..], 0)
    );
    assert_eq!(config.routes[0].rate_limit.unwrap().per.as_secs(), 3600);
    let waivers: Vec<_> = config
        .waivers
        .iter()
        .map(|w| (w.kind, w.place.as_str()))
        .collect();
    assert_eq!(waivers, [("plain_key", "listener.clear")]);
    let told = loaded
        .warnings
        .iter()
        .map(|warning| (line_of(warning), warning.what.as_str()));
    let clear_text: Vec<_> = told
        .filter(|(_, what)| what.contains("in the clear"))
        .collect();
    assert_eq!(
        clear_text,
        [(21, "keys of callers cross the network in the clear")]
    );
}
