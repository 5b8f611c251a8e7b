//! The kinds of IBM Cloud and of the SaaS on AWS: their requests byte by byte, as IBM's SDKs send them.

use std::time::Duration;

use tempfile::NamedTempFile;
use token_source::{
    Kind, Location, Origin,
    credential::{
        Container, Iam, IamAssume, Mcsp, McspV2, Text, Vpc,
        cloud::{CallerExtClaim, Client, ImsVersion, Profile, ScopeCollection, VpcProfile},
    },
    exchange::ExchangeError,
};

use crate::server::{
    Server, answer, attempt, body_of, header_of, line_of, literal, secret_file, token, value,
};

const APIKEY_FORM: &str = "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey\
                           &apikey=c4nary-s3cret%26%3D%2B%25%22&response_type=cloud_iam";

fn iam(origin: Origin, apikey: Location) -> Iam {
    Iam {
        origin,
        apikey,
        client: None,
        scope: None,
    }
}

/// A client whose secret is that of the file.
fn client(id: &str, secret: Location) -> Option<Client> {
    let id = literal(id);
    Some(Client { id, secret })
}

fn iam_token(name: &str) -> Vec<u8> {
    token(&format!(
        r#"{{"access_token":"{name}","refresh_token":"not_supported","token_type":"Bearer","expires_in":3600,"expiration":1800003600,"scope":"ibm openid"}}"#
    ))
}

#[tokio::test]
async fn iam_posts_an_api_key_to_identity_token() {
    let (_file, apikey) = secret_file();
    let server = Server::start(vec![iam_token("t1"), iam_token("t2")]).await;
    let sent = token_source::clock::now();
    let grant = attempt(Kind::Iam(iam(server.origin(""), apikey.clone())))
        .await
        .unwrap();
    assert_eq!(value(&grant), "t1");
    // An opaque token lives as long as the answer says, less the second that may be over.
    let lifetime = Duration::from_secs(3599);
    assert!(
        (sent + lifetime..=token_source::clock::now() + lifetime).contains(&grant.expires.unwrap())
    );
    let login = Iam {
        client: client("bx", apikey.clone()),
        scope: Some(literal("ibm cloud")),
        ..iam(server.origin("/base"), apikey)
    };
    assert_eq!(value(&attempt(Kind::Iam(login)).await.unwrap()), "t2");

    let [plain, full] = &server.requests()[..] else {
        panic!()
    };
    assert_eq!(line_of(plain), "POST /identity/token HTTP/1.1");
    assert_eq!(
        header_of(plain, "content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(header_of(plain, "accept"), Some("application/json"));
    assert_eq!(header_of(plain, "authorization"), None);
    assert_eq!(body_of(plain), APIKEY_FORM);
    assert_eq!(line_of(full), "POST /base/identity/token HTTP/1.1");
    // bx:c4nary-s3cret&=+%"
    let basic = "Basic Yng6YzRuYXJ5LXMzY3JldCY9KyUi";
    assert_eq!(header_of(full, "authorization"), Some(basic));
    assert_eq!(body_of(full), format!("{APIKEY_FORM}&scope=ibm+cloud"));
}

#[tokio::test]
async fn a_client_id_with_a_colon_asks_nobody() {
    let (_file, apikey) = secret_file();
    let server = Server::start(vec![iam_token("t1")]).await;
    let login = Iam {
        client: client("a:b", apikey.clone()),
        ..iam(server.origin(""), apikey)
    };
    let error = attempt(Kind::Iam(login)).await.unwrap_err();
    assert_eq!(error.told(), "a value cannot be sent");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn what_iam_says_of_a_bad_key_is_a_refusal() {
    let bad = r#"{"errorCode":"BXNIM0415E","errorMessage":"Provided API key could not be found."}"#;
    for (status, refused) in [
        ("400 Bad Request", true),
        ("401 Unauthorized", true),
        ("403 Forbidden", true),
        ("429 Too Many Requests", false),
        ("500 Internal Server Error", false),
    ] {
        let (_file, apikey) = secret_file();
        let server = Server::start(vec![answer(status, "retry-after: 7\r\n", bad)]).await;
        let error = attempt(Kind::Iam(iam(server.origin(""), apikey)))
            .await
            .unwrap_err();
        let is_refusal = matches!(
            error,
            ExchangeError::Refused {
                step: "/identity/token",
                ..
            }
        );
        assert_eq!(is_refusal, refused, "{error:?}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    }
}

#[tokio::test]
async fn iam_assume_takes_a_second_step_for_each_name_of_a_profile() {
    let (_file, apikey) = secret_file();
    let cases = [
        (
            Profile::Crn(literal("crn:v1:p")),
            "profile_crn=crn%3Av1%3Ap",
        ),
        (Profile::Id(literal("Profile-1")), "profile_id=Profile-1"),
        (
            Profile::Name {
                name: literal("my profile"),
                account: literal("acc"),
            },
            "profile_name=my+profile&account=acc",
        ),
    ];
    for (profile, form) in cases {
        let server = Server::start(vec![iam_token("own"), iam_token("assumed")]).await;
        let login = Iam {
            client: client("bx", apikey.clone()),
            scope: Some(literal("s")),
            ..iam(server.origin(""), apikey.clone())
        };
        let grant = attempt(Kind::IamAssume(IamAssume { login, profile }))
            .await
            .unwrap();
        assert_eq!(value(&grant), "assumed");
        let [first, second] = &server.requests()[..] else {
            panic!()
        };
        assert_eq!(body_of(first), format!("{APIKEY_FORM}&scope=s"));
        assert!(header_of(first, "authorization").is_some());
        assert_eq!(line_of(second), "POST /identity/token HTTP/1.1");
        let grant_type = "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aassume";
        let expected = format!("{grant_type}&access_token=own&{form}");
        assert_eq!(body_of(second), expected);
        // The SDKs name no client here.
        assert_eq!(header_of(second, "authorization"), None);
    }
}

#[tokio::test]
async fn a_profile_that_cannot_be_read_keeps_the_api_key_at_home() {
    let (_file, apikey) = secret_file();
    let server = Server::start(vec![iam_token("own")]).await;
    let missing = Location::File {
        path: "/no/such/file".into(),
        field: None,
    };
    let profile = Profile::Id(Text::Location(missing));
    let login = iam(server.origin(""), apikey);
    let error = attempt(Kind::IamAssume(IamAssume { login, profile }))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ExchangeError::Secret {
                part: "iam_profile_id",
                ..
            }
        ),
        "{error:?}"
    );
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn container_posts_the_token_of_its_file() {
    let cr_file = NamedTempFile::new().unwrap();
    std::fs::write(cr_file.path(), "e30.cr.token\n").unwrap();
    let cr_token = Location::FirstOf(
        vec![
            "/no/such/file",
            cr_file.path().to_str().unwrap().to_owned().leak(),
        ]
        .leak(),
    );
    let (_file, secret) = secret_file();
    let server = Server::start(vec![iam_token("t1"), iam_token("t2")]).await;
    let container = Container {
        origin: server.origin(""),
        cr_token,
        profile_id: Some(literal("Profile-1")),
        profile_name: None,
        client: None,
        scope: None,
    };
    let grant = attempt(Kind::Container(container.clone())).await.unwrap();
    assert_eq!(value(&grant), "t1");
    let full = Container {
        profile_name: Some(literal("a&b")),
        client: client("bx", secret),
        scope: Some(literal("s")),
        ..container
    };
    attempt(Kind::Container(full)).await.unwrap();

    let [plain, full] = &server.requests()[..] else {
        panic!()
    };
    let form = "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Acr-token\
                &cr_token=e30.cr.token&profile_id=Profile-1";
    assert_eq!(line_of(plain), "POST /identity/token HTTP/1.1");
    assert_eq!(body_of(plain), form);
    assert_eq!(header_of(plain, "authorization"), None);
    assert_eq!(body_of(full), format!("{form}&profile_name=a%26b&scope=s"));
    assert!(header_of(full, "authorization").is_some());
}

#[tokio::test]
async fn vpc_asks_the_metadata_service_twice() {
    let identity = || {
        token(r#"{"access_token":"instance","expires_in":300,"created_at":"x","expires_at":"y"}"#)
    };
    let cases = [
        (
            ImsVersion::V20220301,
            None,
            [
                "PUT /instance_identity/v1/token?version=2022-03-01 HTTP/1.1",
                "POST /instance_identity/v1/iam_token?version=2022-03-01 HTTP/1.1",
            ],
            "",
        ),
        (
            ImsVersion::V20220301,
            Some(VpcProfile::Crn(literal("crn:\"v1"))),
            [
                "PUT /instance_identity/v1/token?version=2022-03-01 HTTP/1.1",
                "POST /instance_identity/v1/iam_token?version=2022-03-01 HTTP/1.1",
            ],
            r#"{"trusted_profile":{"crn":"crn:\"v1"}}"#,
        ),
        (
            ImsVersion::V20250826,
            Some(VpcProfile::Id(literal("Profile-1"))),
            [
                "PUT /identity/v1/token?version=2025-08-26 HTTP/1.1",
                "POST /identity/v1/iam_tokens?version=2025-08-26 HTTP/1.1",
            ],
            r#"{"trusted_profile":{"id":"Profile-1"}}"#,
        ),
        (
            ImsVersion::V20250826,
            Some(VpcProfile::Name(literal("mine"))),
            [
                "PUT /identity/v1/token?version=2025-08-26 HTTP/1.1",
                "POST /identity/v1/iam_tokens?version=2025-08-26 HTTP/1.1",
            ],
            r#"{"trusted_profile":{"name":"mine"}}"#,
        ),
    ];
    for (version, profile, lines, body) in cases {
        let server = Server::start(vec![identity(), iam_token("t1")]).await;
        let vpc = Vpc {
            origin: server.origin(""),
            version,
            profile,
        };
        let grant = attempt(Kind::Vpc(vpc)).await.unwrap();
        assert_eq!(value(&grant), "t1");
        let requests = server.requests();
        assert_eq!([line_of(&requests[0]), line_of(&requests[1])], lines);
        for request in &requests {
            assert_eq!(header_of(request, "metadata-flavor"), Some("ibm"));
            assert_eq!(header_of(request, "content-type"), Some("application/json"));
        }
        assert_eq!(header_of(&requests[0], "authorization"), None);
        assert_eq!(body_of(&requests[0]), r#"{"expires_in":300}"#);
        let bearer = Some("Bearer instance");
        assert_eq!(header_of(&requests[1], "authorization"), bearer);
        assert_eq!(body_of(&requests[1]), body);
        let length = body.len().to_string();
        assert_eq!(header_of(&requests[1], "content-length"), Some(&*length));
    }
}

#[tokio::test]
async fn mcsp_posts_an_api_key_as_json() {
    let (_file, apikey) = secret_file();
    let body = r#"{"token":"t1","token_type":"jwt","expires_in":7200}"#;
    let server = Server::start(vec![token(body)]).await;
    let sent = token_source::clock::now();
    let origin = server.origin("");
    let grant = attempt(Kind::Mcsp(Mcsp { origin, apikey })).await.unwrap();
    assert_eq!(value(&grant), "t1");
    assert!(grant.expires.unwrap() >= sent + Duration::from_secs(7199));
    let request = &server.requests()[0];
    assert_eq!(
        line_of(request),
        "POST /siusermgr/api/1.0/apikeys/token HTTP/1.1"
    );
    assert_eq!(header_of(request, "content-type"), Some("application/json"));
    assert_eq!(body_of(request), r#"{"apikey":"c4nary-s3cret&=+%\""}"#);
}

#[tokio::test]
async fn mcsp_v2_names_its_scope_in_the_path() {
    let (_file, apikey) = secret_file();
    let body = r#"{"token":"t1","token_type":"jwt","expires_in":7200,"expiration":1800003600}"#;
    let server = Server::start(vec![token(body), token(body)]).await;
    let mcsp = McspV2 {
        origin: server.origin(""),
        apikey,
        collection: ScopeCollection::Services,
        scope_id: literal("2025 a/b?"),
        include_builtin_actions: false,
        include_custom_actions: false,
        include_roles: true,
        prefix_roles: false,
        caller_ext_claim: None,
    };
    let grant = attempt(Kind::McspV2(mcsp.clone())).await.unwrap();
    assert_eq!(value(&grant), "t1");
    let full = McspV2 {
        collection: ScopeCollection::Accounts,
        scope_id: literal("a.b"),
        include_builtin_actions: true,
        include_custom_actions: true,
        include_roles: false,
        prefix_roles: true,
        caller_ext_claim: CallerExtClaim::parse(r#"{"productID":"prod\"1"}"#),
        ..mcsp.clone()
    };
    attempt(Kind::McspV2(full)).await.unwrap();

    let [plain, full] = &server.requests()[..] else {
        panic!()
    };
    assert_eq!(
        line_of(plain),
        "POST /api/2.0/services/2025%20a%2Fb%3F/apikeys/token?includeBuiltinActions=false\
         &includeCustomActions=false&includeRoles=true&prefixRolesWithDefinitionScope=false HTTP/1.1"
    );
    assert_eq!(body_of(plain), r#"{"apikey":"c4nary-s3cret&=+%\""}"#);
    assert_eq!(
        line_of(full),
        "POST /api/2.0/accounts/a.b/apikeys/token?includeBuiltinActions=true\
         &includeCustomActions=true&includeRoles=false&prefixRolesWithDefinitionScope=true HTTP/1.1"
    );
    assert_eq!(
        body_of(full),
        r#"{"apikey":"c4nary-s3cret&=+%\"","callerExtClaim":{"productID":"prod\"1"}}"#
    );

    for scope_id in ["..", &"x".repeat(70_000)] {
        let elsewhere = McspV2 {
            scope_id: literal(scope_id),
            ..mcsp.clone()
        };
        let error = attempt(Kind::McspV2(elsewhere)).await.unwrap_err();
        assert!(
            matches!(error, ExchangeError::Unsendable { part: "scope_id" }),
            "{error:?}"
        );
    }
}
