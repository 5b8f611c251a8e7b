//! `allow` and `deny` hold for methods and paths as they go upstream, whatever the shape of the route.

use serde_json::Value;

use crate::{origin::Origin, proxy::World};

/// Routes of every shape with the same rules, in front of one upstream.
fn routes(origin: &Origin, rules: &str) -> String {
    let at = origin.address;
    let route = |name: &str, path: &str, upstream: &str, more: &str| {
        format!(
            "[route.{name}]\npath = '{path}'\nupstream = '{upstream}'\nattach = 'raw'\n{more}\n{rules}\n"
        )
    };
    format!(
        "workers = 1\nadmin = {{ address = '127.0.0.1:0' }}\n[listener.local]\naddress = '127.0.0.1:0'\n\
         [upstream.plain]\nurl = 'http://{at}'\nplain_http = true\n\
         [upstream.based]\nurl = 'http://{at}/base'\nplain_http = true\n\
         [credential.raw.token]\nvalue = {{ file = 'license-token' }}\nupstream = ['plain', 'based']\n{}{}{}",
        route("plain", "/", "plain", ""),
        route("stripped", "/stripped", "plain", "strip_prefix = true"),
        route("both", "/both", "based", "strip_prefix = true"),
    )
}

const RULES: &str = "allow = ['GET /ml/v1/*', 'POST,PUT /ml/v1/chat', '/v2/x%20y']\ndeny = ['/ml/v1/secret', 'DELETE /v2/*']";

#[test]
fn to_methods_and_paths_at_every_route_shape() {
    let (world, origin) = (World::new(), Origin::echoing());
    let proxy = world.start_with(&routes(&origin, RULES));
    proxy.ready();
    let allowed = [
        ("GET", "/ml/v1/models"),
        ("HEAD", "/ml/v1/models/x"),
        ("GET", "/ml/v1/"),
        ("GET", "/%6dl;a=b/v1/x?y=/../z"),
        ("POST", "/ml/v1/chat"),
        ("PUT", "/ml/v1/ch%61t;a"),
        ("PATCH", "/v2/x%20y"),
        ("GET", "/v2/x%20y"),
    ];
    let refused = [
        ("POST", "/ml/v1/models"),
        ("OPTIONS", "/ml/v1/models"),
        ("get", "/ml/v1/models"),
        ("GET", "/ml/v1"),
        ("GET", "/ML/v1/models"),
        ("GET", "/ml/v12/models"),
        ("GET", "/ml%2Bv1/x"),
        ("POST", "/ml/v1/chat/x"),
        ("POST", "/ml/v1/chat/"),
        ("GET", "/ml/v1/secret"),
        ("GET", "/ml/v1/s%65cret;x"),
        ("DELETE", "/v2/x%20y"),
        ("GET", "/v2/x+y"),
        ("GET", "/base/ml/v1/models"),
        ("GET", "/x/ml/v1/models"),
        ("GET", "/"),
    ];
    for (prefix, base) in [("", ""), ("/stripped", ""), ("/both", "/base")] {
        for (method, path) in allowed {
            let answer = proxy.send(method, &format!("{prefix}{path}"), &[], b"");
            assert_eq!(answer.status, 200, "{method} {prefix}{path}");
            let came = origin.take_whole();
            let came: Vec<_> = came.iter().map(|one| one.start.as_str()).collect();
            assert_eq!(came, [format!("{method} {base}{path} HTTP/1.1")]);
        }
        for (method, path) in refused {
            let answer = proxy.send(method, &format!("{prefix}{path}"), &[], b"");
            assert_eq!(answer.status, 403, "{method} {prefix}{path} {answer:?}");
            let status = answer.header("proxy-status").unwrap();
            assert!(status.contains("path_not_allowed"), "{status}");
        }
    }
    assert!(origin.take_whole().is_empty());
    world.end(proxy);
}

#[test]
fn with_warn_in_the_log_alone() {
    let (world, origin) = (World::new(), Origin::echoing());
    let proxy = world.start_with(&routes(&origin, &format!("{RULES}\nwarn = true")));
    proxy.ready();
    for path in ["/ml/v1/models", "/both/ml/v1/models"] {
        assert_eq!(proxy.get(path, &[]).status, 200);
    }
    let refused = [
        ("/v9/x?password=hunter2", "plain", "/v9/x"),
        ("/both/ml/v1/secret?y", "both", "/ml/v1/secret"),
        ("/stripped/v9;a/z", "stripped", "/v9;a/z"),
    ];
    for (target, ..) in refused {
        assert_eq!(proxy.get(target, &[]).status, 200, "{target}");
    }
    let closed = proxy.get("/stripped/usermgmt/v1/user/apiKey", &[]);
    assert_eq!(closed.code(), "token_endpoint_denied", "no list opens it");
    assert_eq!(origin.take_whole().len(), 5);
    let printed = proxy.printed();
    let warnings: Vec<Value> = printed
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line["message"] == "allow or deny would refuse this request")
        .collect();
    assert_eq!(warnings.len(), refused.len(), "{warnings:#?}");
    for (warning, (_, route, path)) in warnings.iter().zip(refused) {
        assert_eq!(warning["level"], "WARN");
        assert_eq!(
            (&warning["route"], &warning["method"], &warning["path"]),
            (&route.into(), &"GET".into(), &path.into())
        );
        assert!(!warning.to_string().contains("hunter2"));
    }
    let waived = proxy.metric("watsonx_auth_proxy_waivers{kind=\"allow_all\"}");
    assert!((waived - 3.0).abs() < f64::EPSILON, "{waived}");
}

#[test]
fn by_the_path_that_is_written_also_where_that_ends_with_a_slash() {
    let (world, origin) = (World::new(), Origin::echoing());
    // Each with what becomes of `/`, `/x/`, `/x` and `/y`: refused, forwarded with nothing attached, or with the credential.
    let cases = [
        ("allow = ['GET /', '/x/']", ["with", "with", "no", "no"]),
        ("deny = ['/', 'GET /x/']", ["no", "no", "no", "with"]),
        (
            "public = ['/', 'GET /x/']",
            ["without", "without", "with", "with"],
        ),
        ("deny = ['/*']", ["no", "no", "no", "no"]),
    ];
    for (rules, wanted) in cases {
        let proxy = world.start_with(&routes(&origin, rules));
        proxy.ready();
        for prefix in ["", "/stripped", "/both"] {
            let became = ["/", "/x/", "/x", "/y"].map(|path| {
                let answer = proxy.get(&format!("{prefix}{path}"), &[]);
                let came = origin.take_whole();
                match (answer.status, &came[..]) {
                    (403, []) => "no",
                    (200, [one]) => {
                        match one.fields.iter().any(|(name, _)| name == "authorization") {
                            true => "with",
                            false => "without",
                        }
                    }
                    _ => panic!("{rules} {prefix}{path}: {answer:?} {came:?}"),
                }
            });
            assert_eq!(became, wanted, "{rules} {prefix}");
        }
        assert_eq!(
            proxy.get("/stripped", &[]).status,
            proxy.get("/stripped/", &[]).status,
            "{rules}"
        );
        origin.take_whole();
        world.end(proxy);
    }
}
