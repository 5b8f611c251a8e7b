//! Nobody takes the credential away, or mints another one, through the proxy.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{
    client::{self, Answer},
    origin::Origin,
    proxy::{Proxy, World},
};

const ENDPOINTS: [&str; 26] = [
    "icp4d-api/v1/authorize",
    "icp4d-api/v1/users",
    "v1/authorize",
    "oidc/token",
    "instance_identity/v1/token",
    "v1/preauth/signin",
    "v1/preauth/validateAuth",
    "idprovider/v1/auth/identitytoken",
    "idprovider/v1/auth/token",
    "usermgmt/v1/user/apiKey",
    "usermgmt/v1/user/currentUserInfo/x",
    "api/v1/usermgmt/v1/user/apiKey",
    "api/v1/usermgmt/v1/usermgmt/users",
    "zen-data/v1/x/secrets",
    "zen-data/v2/x/secrets/y",
    "zen-data/v1/x/api_key",
    "v2/x/api_key",
    "api/v1/secrets",
    "identity/token",
    "auth/login",
    "lakehouse/api/v2/auth/authenticate",
    "lakehouse/api/v3/auth/x",
    "siusermgr/api/1.0/apikeys/token",
    "api/2.0/accounts/7/apikeys/token",
    "api/2.0/apikeys/token",
    "v1/apikeys",
];

/// Every way to write an endpoint that somebody on the way might read as that endpoint.
fn spellings(endpoint: &str) -> Vec<String> {
    let segments = || endpoint.split('/');
    let escaped = |escape: &str, segment: &str| {
        let (first, rest) = segment.split_at(1);
        format!("{escape}{:02x}{rest}", first.as_bytes()[0])
    };
    let each = |change: &dyn Fn(&str) -> String| {
        let changed: String = segments()
            .map(|segment| format!("/{}", change(segment)))
            .collect();
        changed
    };
    let all_escaped = |segment: &str| {
        let escape = |byte| format!("%{byte:02X}");
        segment.bytes().map(escape).collect::<String>()
    };
    let joined = |by: &str| format!("/{}", segments().collect::<Vec<_>>().join(by));
    vec![
        format!("/{endpoint}"),
        format!("/{}", endpoint.to_ascii_uppercase()),
        each(&|segment| escaped("%", segment)),
        each(&|segment| escaped("%25", segment)),
        each(&|segment| escaped("%2525", segment)),
        each(&all_escaped),
        each(&|segment| format!("{segment};x=y")),
        each(&|segment| format!("{segment}%3Bx")),
        each(&|segment| format!("{segment}%253bx")),
        format!("/{endpoint}/"),
        format!("/{endpoint}?x=/../y"),
        format!("/x/y.z/{endpoint}"),
        format!("/x;y/{endpoint}"),
        format!("//{endpoint}"),
        joined("//"),
        joined("/./"),
        joined("/x/../"),
        joined("/x/%2e%2E/"),
        joined("/x/..;/"),
        joined("%2f"),
        joined("%252F"),
        joined("/%252e/"),
        joined("\\"),
        joined("%5c"),
    ]
}

/// Routes of every shape in front of one upstream that keeps what it gets.
fn routes(origin: &Origin) -> String {
    let route = |name: &str, path: &str, upstream: &str, more: &str| {
        format!(
            "[route.{name}]\npath = '{path}'\nupstream = '{upstream}'\nattach = 'raw'\n{more}\n"
        )
    };
    let at = origin.address;
    format!(
        "workers = 1\nadmin = {{ address = '127.0.0.1:0' }}\n\
         [listener.local]\naddress = '127.0.0.1:0'\norigins = ['https://page.example']\n\
         [upstream.plain]\nurl = 'http://{at}'\nplain_http = true\n\
         [upstream.based]\nurl = 'http://{at}/base/v3'\nplain_http = true\n\
         [upstream.inside]\nurl = 'http://{at}/x/icp4d-api'\nplain_http = true\n\
         [credential.raw.token]\nvalue = {{ file = 'license-token' }}\n\
         upstream = ['plain', 'based', 'inside']\n{}{}{}{}{}{}",
        route("plain", "/", "plain", ""),
        route("kept", "/kept", "plain", ""),
        route(
            "stripped",
            "/a%20b/stripped",
            "plain",
            "strip_prefix = true"
        ),
        route("based", "/based", "based", ""),
        route("both", "/both", "based", "strip_prefix = true"),
        route("inside", "/inside", "inside", "strip_prefix = true"),
    )
}

fn is_decoy(answer: &Answer) -> bool {
    let body = answer.json();
    let token = ["token", "access_token"]
        .iter()
        .find_map(|field| body[*field].as_str());
    let claims = token.and_then(|token| token.split('.').nth(1));
    let claims = claims.map(|claims| BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap());
    claims.is_some_and(|claims| client::find(&claims, b"\"iss\":\"watsonx-auth-proxy\"").is_some())
}

/// How often each answer was given.
#[derive(Default)]
struct Count {
    decoys: u32,
    denied: u32,
    ambiguous: u32,
    preflights: u32,
}

fn call_all(proxy: &Proxy, targets: &[String], count: &mut Count) {
    let page = "Origin: https://page.example";
    for target in targets {
        for (method, asked) in [
            ("GET", None),
            ("POST", None),
            ("OPTIONS", None),
            ("OPTIONS", Some("GET")),
            ("OPTIONS", Some("POST")),
        ] {
            let preflight = asked.map(|asked| format!("Access-Control-Request-Method: {asked}"));
            let lines: Vec<&str> = preflight.iter().map(String::as_str).chain([page]).collect();
            let answer = client::send(proxy.address(), method, target, &lines, b"");
            let case = format!("{method} {target}: {answer:?}");
            match answer.status {
                200 if method != "OPTIONS" => {
                    assert!(is_decoy(&answer), "{case}");
                    count.decoys += 1;
                }
                403 => {
                    assert_eq!(answer.code(), "token_endpoint_denied", "{case}");
                    count.denied += 1;
                }
                400 => {
                    // Some of it hyper refuses itself, with a bare status line.
                    count.ambiguous += 1;
                }
                204 if asked.is_some() => {
                    assert!(answer.body.is_empty(), "{case}");
                    count.preflights += 1;
                }
                _ => panic!("{case}"),
            }
        }
    }
}

#[test]
fn in_every_spelling_by_every_method_at_every_route_shape() {
    let (world, origin) = (World::new(), Origin::echoing());
    let proxy = world.start_with(&routes(&origin));
    proxy.ready();
    let mut count = Count::default();
    for prefix in [
        "",
        "/kept",
        "/a%20b/stripped",
        "/%61%20b;x/stripped",
        "/based",
        "/both",
        "http://localhost",
        "http://localhost/both",
    ] {
        for endpoint in ENDPOINTS {
            let targets = spellings(endpoint).into_iter();
            let targets: Vec<_> = targets.map(|path| format!("{prefix}{path}")).collect();
            call_all(&proxy, &targets, &mut count);
        }
    }
    // What the base path begins, the client's path ends.
    let inside = ["/v1/authorize", "/%25761/AUTHORIZE;x", "/v1/users", "/", ""];
    let inside = inside.map(|path| format!("/inside{path}"));
    call_all(&proxy, &inside, &mut count);

    let came = origin.take_whole();
    let came: Vec<_> = came.iter().map(|message| &message.start).collect();
    assert!(came.is_empty(), "arrived: {came:#?}");
    assert!(count.decoys > 500, "{}", count.decoys);
    assert!(count.denied > 3000, "{}", count.denied);
    assert!(count.ambiguous > 1000, "{}", count.ambiguous);
    assert!(count.preflights > 5000, "{}", count.preflights);
    world.end(proxy);
}

#[test]
fn whatever_the_next_server_of_a_chain_makes_of_the_path() {
    let (world, origin) = (World::new(), Origin::echoing());
    let proxy = world.start_with(&routes(&origin));
    proxy.ready();
    for path in [
        "/%2569cp4d-api/v1/users/%25252e%25252e/%25252e%25252e/%25252e%25252e/ml",
        "/%2575sermgmt/v1/users%25252f..%25252f..%25252fml",
        "/ml/%252e%252e/%2569cp4d-api/v1/users/%25252e%25252e/%25252e%25252e/%25252e%25252e/ml",
        "/%2569cp4d-api/v1/authorize;x%252f..%252f..%252f..%252fml",
        "/%2569cp4d-api;%252f../v1/authorize",
    ] {
        let answer = proxy.get(path, &[]);
        assert_eq!(
            (answer.status, &*answer.code()),
            (403, "token_endpoint_denied"),
            "{path}"
        );
    }
    assert!(origin.take_whole().is_empty());
    for path in ["/v2/assets/a%252Fb", "/%252e%252e"] {
        assert_eq!(proxy.get(path, &[]).text(), format!("GET {path} HTTP/1.1"));
    }
    world.end(proxy);
}

#[test]
fn what_only_tells_who_one_is_stays_open() {
    let (world, origin) = (World::new(), Origin::echoing());
    let proxy = world.start_with(&routes(&origin));
    proxy.ready();
    for (path, came) in [
        (
            "/usermgmt/v1/user/currentUserInfo",
            "/usermgmt/v1/user/currentUserInfo",
        ),
        (
            "/both/api/v1/usermgmt/v1/user/tokenExpiry",
            "/base/v3/api/v1/usermgmt/v1/user/tokenExpiry",
        ),
        ("/v2/assets/a%252Fb", "/v2/assets/a%252Fb"),
        ("/authors/icp4d", "/authors/icp4d"),
    ] {
        assert_eq!(proxy.get(path, &[]).text(), format!("GET {came} HTTP/1.1"));
    }
    assert_eq!(origin.take_whole().len(), 4);
    world.end(proxy);
}

#[test]
fn by_deny_for_logins_as_well() {
    let (world, origin) = (World::new(), Origin::echoing());
    let proxy = origin.proxied(&world, "", "", "token_endpoints = 'deny'");
    for (method, path) in [
        ("POST", "/icp4d-api/v1/authorize"),
        ("GET", "/v1/preauth/validateAuth"),
        ("POST", "/identity/token"),
        ("POST", "/api/2.0/apikeys/token"),
    ] {
        let answer = proxy.send(method, path, &[], b"{}");
        assert_eq!(
            (answer.status, &*answer.code()),
            (403, "token_endpoint_denied")
        );
    }
    assert!(origin.take_whole().is_empty());
}

#[test]
fn forward_is_a_waiver() {
    let world = World::new();
    let proxy = world.start(
        "listener.local = { address = '127.0.0.1:0' }\n[route.platform]\npath = '/'\nupstream = 'platform'\n\
         attach = 'platform'\ntoken_endpoints = 'forward'\n",
    );
    assert_eq!(proxy.get("/usermgmt/v1/user/apiKey", &[]).status, 200);
    assert!(
        (proxy.metric("watsonx_auth_proxy_waivers{kind=\"forward\"}") - 1.0).abs() < f64::EPSILON
    );
}
