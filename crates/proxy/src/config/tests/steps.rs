//! What is written of a `steps` login arrives.

use expect_test::expect;
use http::Method;
use proptest::prelude::*;
use token_source::{
    Kind,
    credential::{
        Steps,
        steps::{Content, Json, Template},
    },
};

use super::{load, with};

fn steps(text: &str) -> Steps {
    let loaded = load(&with(text)).unwrap_or_else(|report| panic!("{report}"));
    match loaded.config.credentials.into_iter().next() {
        Some(credential) => match credential.kind {
            Kind::Steps(steps) => steps,
            other => panic!("{other:?}"),
        },
        None => panic!(),
    }
}

fn template(text: &str) -> Template {
    Template::parse(text, &["user", "password", "iam", "id"]).unwrap()
}

#[test]
fn a_login_of_three_steps_arrives() {
    let text = r#"
[credential.a.steps]
inputs = { user = "u", password = { env = "P" } }
[[credential.a.steps.step]]
url = "https://identity.example.com:8443/idprovider/v1/auth/identitytoken"
form = { grant_type = "password", username = "{user}", password = "{password}", subject_token_type = "x" }
take = { iam = "access_token", id = "data.0.id" }
[[credential.a.steps.step]]
url = "http://127.0.0.1:81/a%20b/{id}/?x={iam}&y"
plain_http = true
method = "PUT"
json = { a = ["{{", 0x10, 1.5, true, { b = "{user}" }] }
[[credential.a.steps.step]]
url = "https://cpd.example.com"
headers = { Username = "{user}", Accept = "*/*" }
token = "data.jwt"
expires_in = "data.life"
expiration = "data.end"
"#;
    let steps = steps(text);
    assert_eq!(steps.inputs.len(), 2);
    let [first, second, third] = &steps.steps[..] else {
        panic!()
    };
    assert_eq!(first.method, Method::POST);
    assert_eq!(first.origin.url(), "https://identity.example.com:8443");
    assert_eq!(first.path, template("/idprovider/v1/auth/identitytoken"));
    assert!(first.query.is_none());
    let Content::Form(pairs) = &first.content else {
        panic!()
    };
    assert_eq!(pairs[2], ("password".to_owned(), template("{password}")));
    assert_eq!(first.takes, ["access_token", "data.0.id"]);

    assert_eq!(second.method, Method::PUT);
    assert_eq!(second.origin.url(), "http://127.0.0.1:81");
    assert_eq!(second.path, template("/a%20b/{id}/"));
    assert_eq!(second.query, Some(template("x={iam}&y")));
    let Content::Json(Json::Object(pairs)) = &second.content else {
        panic!()
    };
    let [(_, Json::List(list))] = &pairs[..] else {
        panic!()
    };
    assert!(matches!(
        &list[..],
        [
            Json::Text(brace),
            Json::Integer(16),
            Json::Float(1.5),
            Json::Boolean(true),
            Json::Object(_)
        ] if *brace == template("{{")
    ));

    assert_eq!(third.method, Method::GET);
    assert_eq!(third.path, template("/"));
    assert_eq!(third.headers[0].1, template("{user}"));
    assert_eq!(steps.token.as_deref(), Some("data.jwt"));
    assert_eq!(steps.expires_in.as_deref(), Some("data.life"));
    assert_eq!(steps.expiration.as_deref(), Some("data.end"));
}

#[test]
fn each_step_has_a_waiver_of_its_own() {
    let text = r#"
[[credential.a.steps.step]]
url = "http://127.0.0.1:81"
plain_http = true
[[credential.a.steps.step]]
url = "https://127.0.0.1:81"
tls = { insecure = true }
"#;
    let waivers = load(&with(text)).unwrap().config.waivers;
    let waivers: Vec<_> = waivers.iter().map(|one| (one.kind, &*one.place)).collect();
    let expected = [
        ("plain_http", "credential.a.steps.step 1"),
        ("insecure", "credential.a.steps.step 2"),
    ];
    assert_eq!(waivers, expected);
}

#[test]
fn mistakes_of_a_login_are_told_with_what_to_do() {
    let text = r#"
[credential.a.steps]
inputs = { user = "u", apikey = "hunter2", spare = "hunter3" }
[[credential.a.steps.step]]
url = "https://login.example.com/{usr}?key=hunter4"
json = { apikey = "{apikey}", password = "hunter5" }
token = "data.token"
[[credential.a.steps.step]]
url = "https://login.example.com"
headers = { Authorization = "Bearer {tokn}" }
"#;
    let report = load(&with(text)).unwrap_err().to_string();
    assert!(!report.contains("hunter"), "{report}");
    expect![[r#"
        warning: no route attaches this credential
         --> proxy.toml:2:13
          |
        2 | [credential.a.steps]
          |             ^
          |
          = help: attach = "a" in a route, or leave the table out: it is obtained and renewed for nothing

        error: a secret is never written in the configuration
         --> proxy.toml:3:33
          |
        3 | inputs = { user = "*", apikey = "*******", spare = "*******" }
          |                                 ^^^^^^^^^
          |
          = help: write where it is read: apikey = { file = "/run/secrets/…" }

        error: there is no value of this name
         --> proxy.toml:5:7
          |
        5 | url = "*******************************************"
          |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: did you mean `user`?

        error: this looks like a credential
         --> proxy.toml:5:7
          |
        5 | url = "*******************************************"
          |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: a secret is never written in the configuration: inputs = { key = { file = "…" } }, and "{key}" here

        error: this looks like a credential
         --> proxy.toml:6:42
          |
        6 | json = { apikey = "********", password = "*******" }
          |                                          ^^^^^^^^^
          |
          = help: a secret is never written in the configuration: inputs = { key = { file = "…" } }, and "{key}" here

        error: token is read from the last answer
         --> proxy.toml:7:1
          |
        7 | token = "**********"
          | ^^^^^
          |
          = help: write it in the last step; what a later step needs goes into `take`

        error: there is no value of this name
          --> proxy.toml:10:29
           |
        10 | headers = { Authorization = "*************" }
           |                             ^^^^^^^^^^^^^^^
           |
           = help: the values here are user, apikey, spare

        warning: this file is not there
          --> proxy.toml:20:20
           |
        20 | api_key = { file = "************" }
           |                    ^^^^^^^^^^^^^^
           |
           = help: it may come later: the proxy starts without it, what needs it waits

        6 mistakes, 2 warnings"#]].assert_eq(&report);
}

proptest! {
    /// Whatever the configuration takes for a URL is one when the values are in it.
    #[test]
    fn a_url_that_is_taken_can_be_asked(target in "[ -&(-~é]{0,12}", name in "(/|/\\{a\\}|\\?|\\?b=\\{a\\})") {
        let text = format!(
            "[credential.new.steps]\ninputs = {{ a = 'x' }}\n[[credential.new.steps.step]]\n\
             url = 'https://h{name}{target}'\nheaders = {{ A = '{{a}}' }}\n"
        );
        if let Ok(loaded) = load(&with(&text))
            && let Kind::Steps(steps) = &loaded.config.credentials[0].kind
        {
            let step = &steps.steps[0];
            let query = step.query.iter().map(|query| format!("?{}", query.with_stand_ins("%2F")));
            let target: String = [step.path.with_stand_ins("%2F")].into_iter().chain(query).collect();
            let uri = http::Uri::try_from(&target);
            prop_assert!(uri.is_ok_and(|uri| uri.path().starts_with('/') && uri.authority().is_none()), "{target}");
        }
    }
}
