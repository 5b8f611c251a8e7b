//! `steps`: what the operator's own requests look like on the wire, and that each value is right in its place.

use http::{HeaderName, Method};
use token_source::{
    Kind, Location,
    credential::{
        Steps, Text,
        steps::{Content, Json, Step, Template},
    },
    exchange::ExchangeError,
};

use crate::server::{
    Server, answer, attempt, body_of, header_of, line_of, literal, secret_file, token, value,
};

/// Values are called by their letters.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn template(text: &str) -> Template {
    Template::parse(text, &NAMES).unwrap()
}

fn step(server: &Server, path: &str) -> Step {
    Step {
        method: Method::POST,
        origin: server.origin(""),
        path: template(path),
        query: None,
        headers: Vec::new(),
        content: Content::Nothing,
        takes: Vec::new(),
    }
}

fn steps(inputs: Vec<Text>, steps: Vec<Step>) -> Kind {
    Kind::Steps(Steps {
        inputs,
        steps,
        token: None,
        expires_in: None,
        expiration: None,
    })
}

fn header(name: &'static str, text: &str) -> (HeaderName, Template) {
    (HeaderName::from_static(name), template(text))
}

fn json(text: &str) -> Json {
    Json::Text(template(text))
}

#[tokio::test]
async fn the_two_steps_of_identity_management_can_be_written() {
    let (_file, password) = secret_file();
    let identity = Server::start(vec![token(r#"{"access_token":"iam1","expires_in":3600}"#)]).await;
    let platform = Server::start(vec![token(r#"{"accessToken":"zen1"}"#)]).await;
    let first = Step {
        content: Content::Form(vec![
            ("grant_type".into(), template("password")),
            ("username".into(), template("{a}")),
            ("password".into(), template("{b}")),
            ("scope".into(), template("openid")),
        ]),
        takes: vec!["access_token".into()],
        ..step(&identity, "/idprovider/v1/auth/identitytoken")
    };
    let second = Step {
        method: Method::GET,
        headers: vec![header("username", "{a}"), header("iam-token", "{c}")],
        ..step(&platform, "/v1/preauth/validateAuth")
    };
    let inputs = vec![literal("us er"), Text::Location(password)];
    let grant = attempt(steps(inputs, vec![first, second])).await.unwrap();
    assert_eq!(value(&grant), "zen1");

    let request = &identity.requests()[0];
    assert_eq!(
        line_of(request),
        "POST /idprovider/v1/auth/identitytoken HTTP/1.1"
    );
    assert_eq!(
        header_of(request, "content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(
        body_of(request),
        "grant_type=password&username=us+er&password=c4nary-s3cret%26%3D%2B%25%22&scope=openid"
    );
    let request = &platform.requests()[0];
    assert_eq!(line_of(request), "GET /v1/preauth/validateAuth HTTP/1.1");
    assert_eq!(header_of(request, "username"), Some("us er"));
    assert_eq!(header_of(request, "iam-token"), Some("iam1"));
    assert_eq!(header_of(request, "content-type"), None);
    assert_eq!(body_of(request), "");
}

#[tokio::test]
async fn a_value_is_written_as_its_place_wants_it() {
    let (_file, secret) = secret_file();
    let server = Server::start(vec![
        token(r#"{"data":{"list":[0,{"id":"x/y ?"}],"n":17}}"#),
        token(r#"{"data":{"jwt":"t1","life":60}}"#),
    ])
    .await;
    let first = Step {
        content: Content::Json(Json::Object(vec![
            ("apikey".into(), json("<{a}>")),
            (
                "nested".into(),
                Json::List(vec![
                    json("{b}"),
                    Json::Integer(-1),
                    Json::Float(0.5),
                    Json::Boolean(true),
                    Json::Object(Vec::new()),
                ]),
            ),
            ("k\"".into(), json("{{literal}")),
        ])),
        takes: vec!["data.list.1.id".into(), "data.n".into()],
        ..step(&server, "/first")
    };
    let second = Step {
        method: Method::PUT,
        query: Some(template("x=1&{b}={a}")),
        headers: vec![
            header("authorization", "Bearer {d}"),
            header("accept", "*/*"),
            header("content-type", "text/plain"),
        ],
        content: Content::Form(vec![("a b".into(), template("{a} {d}"))]),
        ..step(&server, "/second/{c}/")
    };
    let kind = Kind::Steps(Steps {
        inputs: vec![Text::Location(secret), literal("ü\"\\\n")],
        steps: vec![first, second],
        token: Some("data.jwt".into()),
        expires_in: Some("data.life".into()),
        expiration: None,
    });
    let sent = token_source::clock::now();
    let grant = attempt(kind).await.unwrap();
    assert_eq!(value(&grant), "t1");
    let seconds = (grant.expires.unwrap() - sent).as_secs();
    assert!((59..=90).contains(&seconds), "{seconds}");

    let [first, second] = &server.requests()[..] else {
        panic!()
    };
    assert_eq!(header_of(first, "content-type"), Some("application/json"));
    assert_eq!(
        body_of(first),
        r#"{"apikey":"<c4nary-s3cret&=+%\">","nested":["ü\"\\\n",-1,0.5,true,{}],"k\"":"{literal}"}"#
    );
    assert_eq!(
        line_of(second),
        "PUT /second/x%2Fy%20%3F/?x=1&%C3%BC%22%5C%0A=c4nary-s3cret%26%3D%2B%25%22 HTTP/1.1"
    );
    assert_eq!(header_of(second, "authorization"), Some("Bearer 17"));
    assert_eq!(header_of(second, "accept"), Some("*/*"));
    assert_eq!(header_of(second, "content-type"), Some("text/plain"));
    assert_eq!(body_of(second), "a+b=c4nary-s3cret%26%3D%2B%25%22+17");
}

#[tokio::test]
async fn what_cannot_stand_in_its_place_is_told_before_anything_is_sent() {
    let server = Server::start(vec![token(r#"{"token":"t"}"#)]).await;
    let into_header = |server: &Server| Step {
        headers: vec![header("username", "x{a}")],
        ..step(server, "/b")
    };
    let into_path = |server: &Server| step(server, "/b/{a}/c");
    type Making = fn(&Server) -> Step;
    let into_query = |server: &Server| Step {
        query: Some(template("{a}")),
        ..step(server, "/b")
    };
    let long = "x".repeat(70_000);
    let cases: [(&str, Making); 7] = [
        (&long, into_query),
        (&long, into_path),
        ("a\r\nx: y", into_header),
        ("ü", into_header),
        ("..", into_path),
        (".", into_path),
        ("", into_path),
    ];
    for (input, last) in cases {
        let inputs = vec![literal(input)];
        let kind = steps(inputs, vec![step(&server, "/a"), last(&server)]);
        let error = attempt(kind).await.unwrap_err();
        assert!(
            matches!(error, ExchangeError::Unsendable { part: "inputs" }),
            "{error:?}"
        );
    }
    let missing = Location::Env("NO_SUCH_VARIABLE_HERE".into());
    let inputs = vec![Text::Location(missing)];
    let error = attempt(steps(inputs, vec![step(&server, "/a")])).await;
    assert!(
        matches!(error, Err(ExchangeError::Secret { part: "inputs", .. })),
        "{error:?}"
    );
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn an_answer_without_what_is_wanted_is_garbage_of_its_step() {
    let taking = |server: &Server| {
        let first = Step {
            takes: vec!["a.b".into()],
            ..step(server, "/a")
        };
        let second = Step {
            headers: vec![header("x", "{a}")],
            ..step(server, "/b")
        };
        steps(Vec::new(), vec![first, second])
    };
    for body in [
        "",
        "<html>",
        "{}",
        r#"{"a":{"b":null}}"#,
        r#"{"a":{"b":""}}"#,
        r#"{"a":{"b":["x"]}}"#,
        r#"{"a":{"b":"x\r\ny: z"}}"#,
    ] {
        let server = Server::start(vec![token(body)]).await;
        let error = attempt(taking(&server)).await.unwrap_err();
        assert!(
            matches!(error, ExchangeError::Garbage { step: "step 1" }),
            "{body}: {error:?}"
        );
        assert_eq!(server.requests().len(), 1);
    }
    let good = || token(r#"{"a":{"b":"x"}}"#);
    let server = Server::start(vec![good(), token(r#"{"token":""}"#)]).await;
    let error = attempt(taking(&server)).await.unwrap_err();
    assert!(
        matches!(error, ExchangeError::Garbage { step: "step 2" }),
        "{error:?}"
    );
    let server = Server::start(vec![good(), answer("403 Forbidden", "", "{}")]).await;
    let error = attempt(taking(&server)).await.unwrap_err();
    assert!(
        matches!(error, ExchangeError::Refused { step: "step 2", .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn values_that_make_the_url_too_long_are_told() {
    let part = "/".to_owned() + &"x".repeat(6000);
    let seven = format!("/{}", ["{a}"; 7].concat());
    let server = Server::start(vec![token(&format!(r#"{{"take":"{part}"}}"#))]).await;
    let first = Step {
        takes: vec!["take".into()],
        ..step(&server, "/a")
    };
    let kind = steps(Vec::new(), vec![first, step(&server, &seven)]);
    let error = attempt(kind).await.unwrap_err();
    assert!(
        matches!(error, ExchangeError::Garbage { step: "step 1" }),
        "{error:?}"
    );
    let kind = steps(vec![literal(&part)], vec![step(&server, &seven)]);
    let error = attempt(kind).await.unwrap_err();
    assert!(
        matches!(error, ExchangeError::Unsendable { part: "inputs" }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_step_may_have_nothing_to_say_to_the_next() {
    let server = Server::start(vec![
        answer("204 No Content", "", ""),
        token(r#"{"token":"t"}"#),
    ])
    .await;
    let kind = steps(Vec::new(), vec![step(&server, "/a"), step(&server, "/b")]);
    assert_eq!(value(&attempt(kind).await.unwrap()), "t");
}
