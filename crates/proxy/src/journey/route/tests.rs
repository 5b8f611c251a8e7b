//! Which paths mean one thing, and which route they are for.

use super::*;

fn route(prefix: &[&str], strip_prefix: bool) -> Route {
    Route {
        name: "test".into(),
        prefix: prefix.iter().map(ToString::to_string).collect(),
        host: None,
        upstream: 0,
        base_path: String::new(),
        strip_prefix,
        allow: None,
        deny: Vec::new(),
        warn: false,
        public: Vec::new(),
        token_endpoints: TokenEndpoints::Deny,
        attach: Vec::new(),
        rewrite: Rewrite::default(),
        max_body: None,
        limit: None,
        rate: None,
        replay_limit: 0,
    }
}

fn pattern(methods: &[Method], segments: &[&str], rest: bool) -> Pattern {
    Pattern {
        methods: methods.to_vec(),
        segments: segments.iter().map(ToString::to_string).collect(),
        rest,
    }
}

#[test]
fn ambiguous_paths_are_refused() {
    for path in [
        "",
        "x",
        "//",
        "//x",
        "/a//b",
        "/a/../b",
        "/a/./b",
        "/..",
        "/.",
        "/%2e%2e/b",
        "/.%2E/b",
        "/..;/b",
        "/.;x/b",
        "/..%3b/b",
        "/a%2fb",
        "/a%5Cb",
        "/a\\b",
        "/%00",
        "/a%0d",
        "/%7f",
        "/%zz",
        "/%",
        "/%4",
        "/;x/b",
        "/;",
        "/\u{e4}",
        "/\u{7f}",
    ] {
        assert_eq!(
            Path::parse(path).map(Path::as_str),
            Err(Fault::BadRequest),
            "{path}"
        );
    }
}

#[test]
fn clear_paths_pass_byte_for_byte() {
    for path in [
        "/",
        "/a",
        "/a/",
        "/a.b/..c",
        "/a%20b+~",
        "/%252e%252e/x",
        "/%C3%A4",
        "/a;v=1/b",
        "/a=b&c,d@e:f!$'()*",
        "/...",
    ] {
        assert_eq!(Path::parse(path).map(Path::as_str), Ok(path));
    }
}

#[test]
fn a_prefix_ends_on_a_segment_boundary() {
    let take = |strip, path: &'static str| {
        route(&["license"], strip)
            .take("localhost", Path::parse(path).unwrap())
            .map(Path::as_str)
    };
    assert_eq!(take(false, "/license/x"), Some("/license/x"));
    assert_eq!(take(true, "/license/x"), Some("/x"));
    assert_eq!(take(true, "/lic%65nse;v=1/x%20y"), Some("/x%20y"));
    assert_eq!(take(true, "/license"), Some("/"));
    assert_eq!(take(true, "/license/"), Some("/"));
    assert_eq!(take(false, "/licenses"), None);
    assert_eq!(take(false, "/License"), None);
    assert_eq!(take(false, "/"), None);
}

#[test]
fn patterns_mean_methods_and_segments() {
    let get = pattern(&[Method::GET], &["ml", "v1"], true);
    let matches = |pattern: &Pattern, method: Method, path| {
        pattern.matches(&method, Path::parse(path).unwrap())
    };
    assert!(matches(&get, Method::GET, "/ml/v1/x/y"));
    assert!(matches(&get, Method::HEAD, "/ml/v1/"));
    assert!(matches(&get, Method::GET, "/ml;a=b/v%31/x"));
    assert!(!matches(&get, Method::POST, "/ml/v1/x"));
    assert!(!matches(&get, Method::GET, "/ml/v12/x"));
    assert!(!matches(&get, Method::GET, "/ml/v1"));
    let exact = pattern(&[], &["products"], false);
    assert!(matches(&exact, Method::PUT, "/products"));
    assert!(!matches(&exact, Method::PUT, "/products/x"));
    assert!(matches(&pattern(&[], &[], true), Method::PUT, "/"));
}

#[test]
fn token_machines_are_closed_in_every_spelling() {
    let mut attached = route(&[], false);
    attached.attach = Attachment::for_tests();
    let pass =
        |route: &Route, path: &'static str| route.pass(&Method::POST, Path::parse(path).unwrap());
    for path in [
        "/icp4d-api/v1/authorize",
        "/ICP4D-API/v1/authorize",
        "/icp4d%2Dapi/v1/users",
        "/%69cp4d-api/v1/authorize",
        "/x/y/icp4d-api;a=b/v1/authorize/",
        "/v1/preauth/signin",
        "/V1/PreAuth/validateAuth",
        "/v1;x/preauth%3bx/signin",
        "/idprovider/v1/auth/identitytoken",
        "/usermgmt/v1/user/apiKey",
        "/api/v1/usermgmt/v1/user/apiKey",
        "/usermgmt/v1/user/currentUserInfo/x",
        "/usermgmt",
        "/zen-data/v2/x/secrets/y",
        "/zen-data/v1/x/api_key",
        "/api/v1/secrets",
        "/identity/token",
        "/auth/login",
        "/lakehouse/api/v2/auth/authenticate",
    ] {
        assert_eq!(
            pass(&attached, path),
            Err(Fault::TokenEndpointDenied),
            "{path}"
        );
    }
    for path in [
        "/ml/v1/text/generation",
        "/usermgmt/v1/user/currentUserInfo",
        "/api/v1/usermgmt/v1/user/tokenExpiry",
        "/zen-data/v3/service_instances",
        "/v1/orchestrate/x",
        "/authors",
    ] {
        assert_eq!(pass(&attached, path), Ok(Passage::Attached), "{path}");
    }
    attached.base_path = "/icp4d-api".into();
    assert_eq!(
        pass(&attached, "/v1/authorize"),
        Err(Fault::TokenEndpointDenied)
    );
    attached.base_path = "/v1".into();
    assert_eq!(
        pass(&attached, "/preauth/signin"),
        Err(Fault::TokenEndpointDenied)
    );
    assert_eq!(
        pass(&route(&[], false), "/icp4d-api/v1/authorize"),
        Ok(Passage::Attached),
        "nothing is attached"
    );
}

#[test]
fn allow_deny_warn_and_public() {
    let mut route = route(&[], false);
    route.allow = Some(vec![pattern(&[Method::GET], &["ml"], true)]);
    route.deny = vec![pattern(&[], &["ml", "secret"], false)];
    route.public = vec![pattern(&[Method::GET], &["version"], false)];
    let pass =
        |route: &Route, method: Method, path| route.pass(&method, Path::parse(path).unwrap());
    assert_eq!(pass(&route, Method::GET, "/ml/x"), Ok(Passage::Attached));
    assert_eq!(pass(&route, Method::GET, "/version"), Ok(Passage::Public));
    assert_eq!(
        pass(&route, Method::POST, "/version"),
        Err(Fault::PathNotAllowed)
    );
    assert_eq!(
        pass(&route, Method::GET, "/ml/secret"),
        Err(Fault::PathNotAllowed)
    );
    // Servers that do not mind a case, or a slash behind a path.
    route
        .deny
        .push(pattern(&[Method::DELETE], &["ml", "y"], true));
    assert_eq!(
        pass(&route, Method::GET, "/ml/secret/"),
        Err(Fault::PathNotAllowed)
    );
    route.allow = None;
    for (method, path, passage) in [
        ("DELETE", "/ml/y/z", Err(Fault::PathNotAllowed)),
        ("delete", "/ml/y/z", Err(Fault::PathNotAllowed)),
        ("DELETE", "/ml/y", Ok(Passage::Attached)),
        ("GET", "/ml/y/z", Ok(Passage::Attached)),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        assert_eq!(pass(&route, method, path), passage, "{path}");
    }
    route.allow = Some(Vec::new());
    route.warn = true;
    assert_eq!(
        pass(&route, Method::POST, "/version"),
        Ok(Passage::Attached)
    );
}

#[test]
fn a_list_is_not_left_by_dots_that_are_escaped_twice() {
    let listed = Route {
        allow: Some(vec![pattern(&[], &["ml"], true)]),
        deny: vec![pattern(&[], &["ml", "keys"], true)],
        public: vec![pattern(&[], &["open"], true)],
        ..route(&[], false)
    };
    let pass = |route: &Route, path: &str| route.pass(&Method::GET, Path::parse(path).unwrap());
    for path in [
        "/ml/%252e%252e/admin/x",
        "/ml/%25252e%25252e/admin/x",
        "/ml/x%252f..%252f..%252fadmin",
        "/ml/x;%252f..%252f..%252fadmin",
        "/ml/%255c..%255c..%255cadmin",
        "/%252e%252e/ml/x",
        "/ml/%256beys/x",
        "/ml/x/%252e%252e/keys/x",
        "/open/%252e%252e/admin",
    ] {
        assert_eq!(pass(&listed, path), Err(Fault::PathNotAllowed), "{path}");
    }
    for path in [
        "/ml/a%252Fb",
        "/ml/100%25",
        "/ml/a%252Fb/",
        "/ml/%252e%252e/ml/x",
    ] {
        assert_eq!(pass(&listed, path), Ok(Passage::Attached), "{path}");
    }
    assert_eq!(pass(&listed, "/open/a%252Fb"), Ok(Passage::Public));
    let unlisted = route(&[], false);
    assert_eq!(pass(&unlisted, "/%252e%252e"), Ok(Passage::Attached));
}
