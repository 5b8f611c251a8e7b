//! One row for each rule: the text that breaks it, the line to blame, and what is said.

use super::{load, with};
use crate::config::{
    ListenAddress, ListenerTls, Place, TokenEndpoints,
    report::{Mistake, Severity},
};

/// The one mistake of a text, as `LINE: WHAT`; line 0 is the file as a whole.
#[track_caller]
fn breaks(text: &str, line: usize, what: &str) {
    let report = load(text).unwrap_err();
    let errors: Vec<_> = report
        .mistakes
        .iter()
        .filter(|mistake| mistake.severity == Severity::Error)
        .map(|mistake| (line_of(mistake), mistake.what.as_str()))
        .collect();
    assert_eq!(errors, [(line, what)], "\n{text}\n{report}");
    assert!(
        report
            .mistakes
            .iter()
            .all(|mistake| !mistake.hint.is_empty()),
        "{report}"
    );
}

fn line_of(mistake: &Mistake) -> usize {
    match &mistake.place {
        crate::config::report::Place::Spot(spot) => spot.line,
        _ => 0,
    }
}

/// As [`breaks`], of a table that stands before a complete configuration.
#[track_caller]
fn table_breaks(table: &str, line: usize, what: &str) {
    breaks(&with(table), line, what);
}

#[test]
fn top_level() {
    for (text, what) in [
        ("workers = 0", "not a whole number from 1 to 4294967295"),
        (
            "workers = \"4\"",
            "a number is wanted here, this is a string",
        ),
        (
            "drain_delay = 5",
            "a time is wanted here, this is an integer",
        ),
        ("drain_timeout = \"90d\"", "longer than 30 days"),
        ("poll = \"0s\"", "poll is zero"),
        ("log = { format = \"xml\" }", "not a value of format"),
        ("log = { level = \"loud\" }", "not a log level"),
        (
            "log = { access = 1 }",
            "true or false is wanted here, this is an integer",
        ),
        ("log = \"json\"", "a table is wanted here, this is a string"),
        (
            "[tracing]\nendpoint = \"x\"",
            "`tracing` is not in this version yet",
        ),
        (
            "[caller.a]\nkey = \"x\"",
            "`caller` is not in this version yet",
        ),
        (
            "admin = { address = \"0.0.0.0:9090\" }",
            "the admin address is not a loopback address",
        ),
        ("admin = { probes = \"9091\" }", "not an address and port"),
        (
            "admin = { probes = \"127.0.0.1:8080\" }",
            "listener `base` has this address already",
        ),
        (
            "admin = { address = \"127.0.0.1:8080\" }",
            "listener `base` has this address already",
        ),
    ] {
        table_breaks(text, 1, what);
    }
    breaks(
        "[route.a]\npath=\"/\"\nupstream=\"b\"\n[upstream.b]\nurl=\"https://b\"",
        0,
        "there is no listener: nobody could call",
    );
    breaks(
        "[listener.a]\naddress=\"127.0.0.1:1\"",
        0,
        "there is no route",
    );
}

#[test]
fn names_of_tables() {
    let named = "[upstream.Data]\nurl = \"https://a\"";
    table_breaks(named, 1, "not a name for a upstream");
    table_breaks("[[route]]\npath = \"/\"\n[x]", 1, "a route without a name");
}

#[test]
fn listeners() {
    for (keys, line, what) in [
        ("", 1, "a listener needs an address"),
        (
            "address = \"*:80\"",
            2,
            "the address before the port is missing",
        ),
        ("address = \"127.0.0.1\"", 2, "the port is missing"),
        ("address = \"example.com:80\"", 2, "not an address and port"),
        ("address = \"unix:\"", 2, "not the path of a unix socket"),
        (
            "address = \"127.0.0.1:8080\"",
            2 + 4,
            "listener `new` has this address already",
        ),
        (
            "address = \"0.0.0.0:80\"",
            2,
            "anyone who reaches this address would act with the proxy's credentials",
        ),
        (
            "address = \"127.0.0.1:80\"\nmode = \"0660\"",
            3,
            "mode is for unix sockets",
        ),
        (
            "address = \"unix:/a\"\nmode = \"0888\"",
            3,
            "not a file mode",
        ),
        (
            "address = \"unix:/a\"\nuids = [\"me\"]",
            3,
            "a number is wanted here, this is a string",
        ),
        (
            "address = \"127.0.0.1:80\"\ntls = {}",
            3,
            "tls is either certificate and key, or self_signed",
        ),
        (
            "address = \"127.0.0.1:80\"\ntls = { certificate = \"a\" }",
            3,
            "tls is either certificate and key, or self_signed",
        ),
        (
            "address = \"127.0.0.1:80\"\ntls = { certificate = \"a\", key = \"b\", client_ca = \"c\" }",
            3,
            "`client_ca` is not in this version yet",
        ),
        (
            "address = \"unix:/a\"\ntls = { self_signed = true }",
            3,
            "self_signed is for loopback addresses",
        ),
        (
            "address = \"127.0.0.1:80\"\nhosts = [\"a:80\"]",
            3,
            "not a host name",
        ),
        (
            "address = \"127.0.0.1:80\"\norigins = [\"null\"]",
            3,
            "not an origin",
        ),
        (
            "address = \"127.0.0.1:80\"\norigins = [\"https://a/b\"]",
            3,
            "not an origin",
        ),
        (
            "address = \"127.0.0.1:80\"\nmax_head_size = \"1KiB\"",
            3,
            "not from 8KiB to 1MiB",
        ),
        (
            "address = \"127.0.0.1:80\"\nmax_connections = 0",
            3,
            "not a whole number from 1 to 4294967295",
        ),
        (
            "address = \"127.0.0.1:80\"\nroutes = []",
            1,
            "this listener serves no route",
        ),
        (
            "address = \"127.0.0.1:80\"\nroutes = [\"bse\"]",
            3,
            "there is no route of this name",
        ),
        (
            "address = \"127.0.0.1:80\"\nroutes = [\"base\", \"base\"]",
            3,
            "named twice",
        ),
        (
            "address = \"127.0.0.1:80\"\nkeep_alive = \"soon\"",
            3,
            "not a time",
        ),
    ] {
        let lines = 1 + keys.lines().count();
        let line = if what.starts_with("listener `new`") {
            lines + 3
        } else {
            line
        };
        table_breaks(&format!("[listener.new]\n{keys}"), line, what);
    }
}

#[test]
fn open_listeners_serve_limited_routes() {
    let open = "[listener.open]\naddress = \"0.0.0.0:80\"\nanyone = true\n";
    table_breaks(
        open,
        13,
        "listener `open` is open to others, and this route lets everything pass",
    );
    for word in [
        "preset = \"watsonx\"",
        "allow = [\"/v2/*\"]",
        "allow = [\"*\"]",
    ] {
        load(&format!("{}{word}\n", with(open))).unwrap();
    }
}

#[test]
fn upstreams() {
    for (keys, line, what) in [
        ("", 1, "an upstream needs a url"),
        (
            "url = \"cpd.example.com\"",
            2,
            "not a URL of the form https://host[:port][/path]",
        ),
        ("url = \"ftp://a\"", 2, "the scheme must be https or http"),
        (
            "url = \"https://u:p@a\"",
            2,
            "a URL must not carry a user or password",
        ),
        (
            "url = \"https://a/?token=x\"",
            2,
            "a base URL has no query and no fragment",
        ),
        (
            "url = \"http://a\"",
            2,
            "credentials would cross the network in the clear",
        ),
        (
            "url = \"https://a\"\nplain_http = true",
            3,
            "plain_http waives TLS, and the url is https://",
        ),
        (
            "url = \"http://a\"\nplain_http = true\ntls = {}",
            4,
            "tls has no meaning for an http:// url",
        ),
        (
            "url = \"https://a\"\ntls = { pin = [\"sha256:x\"] }",
            3,
            "not a pin",
        ),
        (
            "url = \"https://a\"\ntls = { insecure = true, ca = \"a\" }",
            3,
            "ca says what to check, insecure says to check nothing",
        ),
        (
            "url = \"https://a\"\ntls = { server_name = \"a:1\" }",
            3,
            "not a host name",
        ),
        (
            "url = \"https://a\"\ntls = { key = \"k\" }",
            3,
            "our own certificate needs both certificate and key",
        ),
        (
            "url = \"https://a\"\nproxy = \"none\"",
            3,
            "`proxy` is not in this version yet",
        ),
        (
            "url = \"https://a\"\nprotocol = \"http2\"",
            3,
            "`protocol` is not in this version yet",
        ),
        (
            "url = \"https://a\"\nconnect_timeout = \"0s\"",
            3,
            "connect_timeout is zero",
        ),
    ] {
        table_breaks(&format!("[upstream.new]\n{keys}"), line, what);
    }
}

#[test]
fn credentials() {
    let secret = "a secret is never written in the configuration";
    let place = "a place is exactly one of file, env, systemd, command";
    for (kind, keys, line, what) in [
        (
            "cp4d",
            "username = \"u\"\napi_key = { env = \"K\" }",
            1,
            "cp4d needs to know where to log in",
        ),
        (
            "cp4d",
            "upstream = \"base\"\napi_key = { env = \"K\" }",
            1,
            "username is missing",
        ),
        (
            "cp4d",
            "upstream = \"base\"\nusername = \"\"\napi_key = { env = \"K\" }",
            3,
            "username is empty, or has a control character in it",
        ),
        (
            "cp4d",
            "upstream = \"base\"\nusername = \"u\"",
            1,
            "neither api_key nor password",
        ),
        (
            "cp4d",
            "upstream = \"base\"\nusername = \"u\"\napi_key = { env = \"K\" }\npassword = { env = \"K\" }",
            5,
            "both api_key and password",
        ),
        (
            "cp4d",
            "upstream = \"base\"\nusername = \"u\"\npassword = { env = \"K\" }\ntls = {}",
            5,
            "tls goes with a url",
        ),
        (
            "cp4d",
            "upstream = \"bse\"\nusername = \"u\"\npassword = { env = \"K\" }",
            2,
            "there is no upstream of this name",
        ),
        (
            "cp4d",
            "url = \"http://a\"\nusername = \"u\"\npassword = { env = \"K\" }",
            2,
            "credentials would cross the network in the clear",
        ),
        (
            "cp4d",
            "upstream = \"base\"\nusername = \"u\"\npassword = { env = \"K\" }\nproxy = \"none\"",
            5,
            "`proxy` is not in this version yet",
        ),
        (
            "cp4d_iam",
            "upstream = \"base\"\nusername = \"u\"\napi_key = { env = \"K\" }",
            4,
            "cp4d_iam takes a password, not an API key",
        ),
        (
            "cp4d_iam",
            "upstream = \"base\"\nusername = \"u\"\npassword = { env = \"K\" }\nidentity_tls = {}",
            5,
            "identity_tls goes with identity_url",
        ),
        (
            "cp4d_iam",
            "upstream = \"base\"\nusername = \"u\"\npassword = { env = \"K\" }\nidentity_url = \"http://a\"",
            5,
            "credentials would cross the network in the clear",
        ),
        (
            "cp4d_ldap",
            "upstream = \"base\"\nusername = \"u\"",
            1,
            "password is missing",
        ),
        (
            "zen_api_key",
            "username = \"u:v\"\napi_key = { env = \"K\" }",
            2,
            "a colon in the username",
        ),
        (
            "basic",
            "username = \"u\"",
            1,
            "neither api_key nor password",
        ),
        ("token", "", 1, "value is missing"),
        ("token", "value = \"s\"", 2, secret),
        ("token", "value = 12345", 2, secret),
        ("token", "value = { }", 2, place),
        ("token", "value = { file = \"/a\", env = \"B\" }", 2, place),
        (
            "token",
            "value = { env = \"A B\" }",
            2,
            "not the name of an environment variable",
        ),
        (
            "token",
            "value = { env = \"A\", field = \"f\" }",
            2,
            "only a file has fields",
        ),
        (
            "token",
            "value = { systemd = \"../a\" }",
            2,
            "not the name of a systemd credential",
        ),
        (
            "token",
            "value = { command = [] }",
            2,
            "the command is empty",
        ),
        (
            "token",
            "value = { command = \"op read\" }",
            2,
            "a list of strings is wanted here, this is a string",
        ),
        (
            "token",
            "value = { file = \"~/key\" }",
            2,
            "$HOME is not set here, and this path begins with it",
        ),
        (
            "token",
            "value = { kubernetes_secret = { name = \"x\" } }",
            2,
            "`kubernetes_secret` is not in this version yet",
        ),
        (
            "token",
            "value = { keyring = \"a/b\" }",
            2,
            "`keyring` is not in this version yet",
        ),
        ("service_account", "value = \"s\"", 2, secret),
        (
            "token",
            "value = { env = \"A\" }\nlifetime = \"0s\"",
            3,
            "lifetime is zero",
        ),
        (
            "mcsp_v2",
            "apikey = \"x\"",
            1,
            "`mcsp_v2` is not in this version yet",
        ),
        ("cpd", "username = \"u\"", 1, "not a kind of credential"),
    ] {
        table_breaks(&format!("[credential.new.{kind}]\n{keys}"), line, what);
    }
    table_breaks("[credential.new]", 1, "a credential needs a kind");
    table_breaks(
        "[credential.new]\napi_key = \"s\"",
        2,
        "a key where the kind of a credential belongs",
    );
    let two = "[credential.new.token]\nvalue = { env = \"A\" }\n[credential.new.service_account]";
    table_breaks(two, 3, "a credential has one kind");
}

#[test]
fn routes() {
    for (keys, line, what) in [
        ("upstream = \"base\"", 1, "a route needs a path"),
        ("path = \"/\"", 1, "a route needs an upstream"),
        (
            "path = \"/\"\nupstream = \"bas\"",
            3,
            "there is no upstream of this name",
        ),
        (
            "path = \"a\"\nupstream = \"base\"",
            2,
            "a path begins with a slash",
        ),
        (
            "path = \"//\"\nupstream = \"base\"",
            2,
            "empty segment in the path",
        ),
        (
            "path = \"/a/%2e%2E/b\"\nupstream = \"base\"",
            2,
            "dot segment in the path",
        ),
        (
            "path = \"/a%2fb\"\nupstream = \"base\"",
            2,
            "a segment of the path contains a slash, a backslash, a semicolon or a control character",
        ),
        (
            "path = \"/a%2\"\nupstream = \"base\"",
            2,
            "broken escape in the path",
        ),
        (
            "path = \"/a?b\"\nupstream = \"base\"",
            2,
            "a path has no query and no fragment",
        ),
        (
            "path = \"/base/\"\nupstream = \"base\"",
            13,
            "route `new` has the same path and host",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nhost = \"a:80\"",
            4,
            "not a host name",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\npreset = \"watson\"",
            4,
            "not a value of preset",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nattach = \"bas\"",
            4,
            "there is no credential of this name",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nattach = true",
            4,
            "attach is the name of a credential, or a list",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nattach = [\"base\"]",
            4,
            "each entry of the list is a table",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nattach = [{ }]",
            4,
            "which credential?",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nattach = [{ credential = \"base\", header = \"Host\" }]",
            4,
            "the proxy itself sets or removes this header",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nattach = [{ credential = \"base\", header = \"a b\" }]",
            4,
            "not the name of a header",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nattach = [{ credential = \"base\", scheme = \"a b\" }]",
            4,
            "not an authentication scheme",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nattach = [{ credential = \"base\", query = \"a=b\" }]",
            4,
            "not the name of a query parameter",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nattach = [{ credential = \"base\", query = \"a\", header = \"b\" }]",
            4,
            "a credential goes into a header or into the query",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nattach = [{ credential = \"base\" }, { credential = \"base\", header = \"authorization\" }]",
            4,
            "two credentials at one place",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nallow = []",
            4,
            "allow is empty: nothing would pass",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nallow = [\"get /a\"]",
            4,
            "not a method",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nallow = [\"/a/*/b\"]",
            4,
            "`*` stands for the rest of a path, as its last segment",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\ndeny = \"/a\"",
            4,
            "a list of strings is wanted here, this is a string",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\ntoken_endpoints = \"decoy\"",
            4,
            "`decoy` is not in this version yet",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nscrub_body = true",
            4,
            "`scrub_body` is not in this version yet",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nset_headers = { X-Api_Key = \"x\" }",
            4,
            "this looks like a credential",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nset_headers = { Content-Length = \"1\" }",
            4,
            "the proxy itself sets or removes this header",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nset_headers = { A = \"1\", a = \"2\" }",
            4,
            "this header is set or attached already",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nset_headers = { A = \"\\n\" }",
            4,
            "not the value of a header",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nattach = [{ credential = \"base\", header = \"IamX\" }]\nset_headers = { iamx = \"1\" }",
            5,
            "this header is set or attached already",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\ndefault_query = { version = 2025-02-01 }",
            4,
            "a string is wanted here, this is a datetime",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\ndefault_query = { token = \"x\" }",
            4,
            "this looks like a credential",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nmax_body = \"big\"",
            4,
            "not a size",
        ),
        (
            "path = \"/\"\nupstream = \"base\"\nforwarded = \"keep\"",
            4,
            "not a value of forwarded",
        ),
    ] {
        // The routes of the base come after the new one: its own twin is to blame there.
        let line = if what.starts_with("route `new`") {
            3 + 11
        } else {
            line
        };
        table_breaks(&format!("[route.new]\n{keys}"), line, what);
    }
}

#[test]
fn a_credential_goes_to_one_server() {
    let other = "[upstream.other]\nurl = \"https://other.example.com\"\n";
    let route = |attach: &str| {
        format!("[route.other]\npath = \"/o\"\nupstream = \"other\"\nattach = {attach}\n")
    };
    table_breaks(
        &format!("{other}{}", route("\"base\"")),
        6,
        "credential `base` is not for the server of upstream `other`",
    );
    let token = "[credential.t.token]\nvalue = { env = \"T\" }\n";
    let first = "[route.first]\npath = \"/f\"\nupstream = \"base\"\nattach = \"t\"\n";
    table_breaks(
        &format!("{other}{token}{first}{}", route("\"t\"")),
        12,
        "credential `t` would go to two servers",
    );
    let bound = "[credential.t.token]\nupstream = \"base\"\nvalue = { env = \"T\" }\n";
    table_breaks(
        &format!("{other}{bound}{}", route("\"t\"")),
        9,
        "credential `t` is not for the server of upstream `other`",
    );
    // Logs in at one server, and is for another, which is named.
    let elsewhere = "[credential.e.cp4d]\nurl = \"https://login.example.com/icp4d-api\"\nupstream = \"other\"\nusername = \"u\"\napi_key = { env = \"K\" }\n";
    let loaded = load(&with(&format!("{other}{elsewhere}{}", route("\"e\"")))).unwrap();
    let token_source::Kind::Cp4d { origin, .. } = &loaded.config.credentials[0].kind else {
        panic!()
    };
    assert_eq!(
        (origin.host.as_str(), origin.base_path.as_str()),
        ("login.example.com", "")
    );
}

#[test]
fn a_kubernetes_token_never_goes_into_a_url() {
    let text = "[credential.pod.service_account]\n[route.l]\npath = \"/l\"\nupstream = \"base\"\nattach = [{ credential = \"pod\", query = \"token\" }]";
    table_breaks(text, 5, "a Kubernetes token never goes into a URL");
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
fn what_is_written_arrives() {
    let text = r#"
workers = 3
drain_timeout = "1m"
poll = "2s"
[log]
format = "json"
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
