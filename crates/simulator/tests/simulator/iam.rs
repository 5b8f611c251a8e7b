//! IBM Cloud IAM: each grant type, who may ask, and how a refusal is told.

use http::{Request, StatusCode, header};
use serde_json::{Value, json};
use simulator::{Garbage, Options, Outage, Simulator, Tally, TrustedProfile};

use crate::client::*;

const API_KEY: &str = "urn:ibm:params:oauth:grant-type:apikey";
const ASSUME: &str = "urn:ibm:params:oauth:grant-type:assume";
const COMPUTE_RESOURCE: &str = "urn:ibm:params:oauth:grant-type:cr-token";

fn url(simulator: &Simulator) -> String {
    simulator.platform_url() + "/identity/token"
}

async fn ask(simulator: &Simulator, fields: &[(&str, &str)]) -> Reply {
    send(simulator, post_form(url(simulator), fields)).await
}

async fn ask_as(simulator: &Simulator, client: (&str, &str), fields: &[(&str, &str)]) -> Reply {
    let mut request = post_form(url(simulator), fields);
    let basic = encoded("Basic", client.0, client.1).try_into().unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, basic);
    send(simulator, request).await
}

async fn by_key(simulator: &Simulator) -> Reply {
    let fields = [
        ("grant_type", API_KEY),
        ("apikey", &simulator.iam_api_key()),
        ("response_type", "cloud_iam"),
    ];
    ask(simulator, &fields).await
}

async fn token_by_key(simulator: &Simulator) -> String {
    field(&by_key(simulator).await, "access_token")
}

fn field(reply: &Reply, name: &str) -> String {
    reply.json()[name].as_str().unwrap().to_owned()
}

/// The code of a refusal, whose form is checked besides.
fn refusal(reply: &Reply) -> String {
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    let body = reply.json();
    assert!(body["errorMessage"].is_string(), "{body}");
    assert_eq!(body["context"]["requestType"], "incoming.Identity_Token");
    body["errorCode"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_api_key_gives_a_token_of_an_hour_that_opens_the_apis() {
    let simulator = start();
    let reply = by_key(&simulator).await;
    assert_eq!(reply.status, StatusCode::OK);
    let body = reply.json();
    let token = field(&reply, "access_token");
    let said = claims(&token);
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 3600);
    assert_eq!(body["expiration"], said["exp"]);
    assert_eq!(body["scope"], "ibm openid");
    assert_eq!(body["refresh_token"], "not_supported");
    assert_eq!(
        said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(),
        3600
    );
    assert_eq!(said["iss"], "https://iam.cloud.ibm.com/identity");
    assert_eq!(said["sub_type"], "ServiceId");

    assert_eq!(
        generate_as(&simulator, &bearer(&token)).await.status,
        StatusCode::OK
    );
    let project = format!("{}/v2/projects/{PROJECT}", simulator.platform_url());
    let reply = get_as(&simulator, &bearer(&token), project).await;
    assert_eq!(reply.status, StatusCode::OK);
    // Software Hub's user management is not IBM Cloud's.
    let user = simulator.platform_url() + "/usermgmt/v1/user/apiKey";
    let reply = get_as(&simulator, &bearer(&token), user).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);

    let expected = Tally {
        attempts: 1,
        granted: 1,
        refused: 0,
    };
    assert_eq!(simulator.logins().iam_api_key, expected);
    assert!(simulator.tokens_issued().contains(&token));
}

#[tokio::test]
async fn a_wrong_key_is_a_400_in_iams_form() {
    let simulator = start();
    let reply = ask(&simulator, &[("grant_type", API_KEY), ("apikey", "wrong")]).await;
    assert_eq!(refusal(&reply), "BXNIM0415E");
    assert_eq!(
        reply.json()["errorMessage"],
        "Provided API key could not be found."
    );
    // The key of Software Hub is another one.
    let key = simulator.api_key();
    let reply = ask(&simulator, &[("grant_type", API_KEY), ("apikey", &key)]).await;
    assert_eq!(refusal(&reply), "BXNIM0415E");
    assert_eq!(simulator.logins().iam_api_key.refused, 2);
}

#[tokio::test]
async fn every_field_must_be_known_and_there_once() {
    let simulator = start();
    let key = simulator.iam_api_key();
    for (fields, code) in [
        (vec![("apikey", key.as_str())], "BXNIM0109E"),
        (vec![("grant_type", API_KEY)], "BXNIM0109E"),
        (vec![("grant_type", API_KEY), ("apikey", "")], "BXNIM0109E"),
        (
            vec![("grant_type", API_KEY), ("apikey", &key), ("apikey", &key)],
            "BXNIM0106E",
        ),
        (
            vec![
                ("grant_type", API_KEY),
                ("grant_type", API_KEY),
                ("apikey", &key),
            ],
            "BXNIM0109E",
        ),
        (
            vec![("grant_type", API_KEY), ("apikey", &key), ("username", "u")],
            "BXNIM0106E",
        ),
        (
            vec![
                ("grant_type", API_KEY),
                ("apikey", &key),
                ("response_type", "uaa"),
            ],
            "BXNIM0106E",
        ),
        (vec![("grant_type", "password")], "BXNIM0106E"),
    ] {
        let reply = ask(&simulator, &fields).await;
        assert_eq!(refusal(&reply), code, "{fields:?}");
    }
    let logins = simulator.logins();
    assert_eq!(logins.iam_api_key.refused, 5);
    assert_eq!(logins.iam_unknown.refused, 3);
}

#[tokio::test]
async fn only_a_posted_form_without_a_query_is_taken() {
    let simulator = start();
    let form = format!("grant_type={API_KEY}&apikey={}", simulator.iam_api_key());
    let as_json = post_json(
        url(&simulator),
        &json!({ "apikey": simulator.iam_api_key() }),
    );
    let reply = send(&simulator, as_json).await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(reply.json()["errorCode"], "BXNIM0060E");

    let put = Request::put(url(&simulator))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let reply = send(&simulator, with_body(put, form.clone())).await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);

    let in_query = post(format!("{}?{form}", url(&simulator)))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let reply = send(&simulator, with_body(in_query, form)).await;
    assert_eq!(refusal(&reply), "BXNIM0106E");
}

#[tokio::test]
async fn a_scope_is_granted_as_it_was_asked_for() {
    let simulator = start();
    let fields = [
        ("grant_type", API_KEY),
        ("apikey", &simulator.iam_api_key()),
        ("scope", "ibm openid extra"),
    ];
    let reply = ask(&simulator, &fields).await;
    assert_eq!(reply.json()["scope"], "ibm openid extra");
    assert_eq!(
        claims(&field(&reply, "access_token"))["scope"],
        "ibm openid extra"
    );
}

#[tokio::test]
async fn a_profile_is_assumed_with_a_token_and_one_name_of_it() {
    let simulator = start();
    let token = token_by_key(&simulator).await;
    let profile = simulator.trusted_profile();
    let crn = profile.crn();
    let TrustedProfile { id, name, account } = &profile;
    let base = [("grant_type", ASSUME), ("access_token", token.as_str())];
    for (named, code) in [
        (vec![("profile_id", id.as_str())], None),
        (vec![("profile_crn", &crn)], None),
        (vec![("profile_name", name), ("account", account)], None),
        (vec![("profile_name", name)], Some("BXNIM0109E")),
        (vec![], Some("BXNIM0109E")),
        (
            vec![("profile_id", id), ("profile_crn", &crn)],
            Some("BXNIM0106E"),
        ),
        (vec![("profile_id", "Profile-unknown")], Some("BXNIM0106E")),
        (
            vec![("profile_name", name), ("account", "other")],
            Some("BXNIM0106E"),
        ),
        (
            vec![("profile_id", id), ("scope", "ibm")],
            Some("BXNIM0106E"),
        ),
    ] {
        let fields: Vec<_> = base.iter().chain(&named).copied().collect();
        let reply = ask(&simulator, &fields).await;
        if let Some(code) = code {
            assert_eq!(refusal(&reply), code, "{named:?}");
            continue;
        }
        assert_eq!(reply.status, StatusCode::OK, "{named:?}");
        let assumed = field(&reply, "access_token");
        let said = claims(&assumed);
        assert_eq!(
            (&said["sub"], &said["sub_type"]),
            (&json!(id), &json!("Profile"))
        );
        assert_eq!(said["authn"]["sub_type"], "ServiceId");
        assert_eq!(reply.json()["refresh_token"], "not_supported");
        let reply = generate_as(&simulator, &bearer(&assumed)).await;
        assert_eq!(reply.status, StatusCode::OK);
    }
    let logins = simulator.logins();
    assert_eq!(
        (logins.iam_assume.granted, logins.iam_assume.refused),
        (3, 6)
    );
    assert_eq!(logins.iam_api_key.granted, 1);
}

#[tokio::test]
async fn only_a_valid_token_of_iam_assumes_a_profile() {
    let simulator = start();
    let id = simulator.trusted_profile().id;
    let assume = async |token: &str| {
        let fields = [
            ("grant_type", ASSUME),
            ("access_token", token),
            ("profile_id", &id),
        ];
        ask(&simulator, &fields).await
    };
    let platform = token(&simulator).await;
    assert_eq!(refusal(&assume(&platform).await), "BXNIM0401E");
    assert_eq!(refusal(&assume("a.b.c").await), "BXNIM0401E");

    let own = token_by_key(&simulator).await;
    let assumed = field(&assume(&own).await, "access_token");
    assert_eq!(refusal(&assume(&assumed).await), "BXNIM0401E");

    simulator.set_clock_skew(3601);
    assert_eq!(refusal(&assume(&own).await), "BXNIM0410E");
    simulator.set_clock_skew(0);
    assert!(simulator.revoke(&own));
    assert_eq!(refusal(&assume(&own).await), "BXNIM0401E");
}

#[tokio::test]
async fn a_compute_resource_speaks_for_its_profile() {
    let simulator = start();
    let (token, profile) = (
        simulator.compute_resource_token(),
        simulator.trusted_profile(),
    );
    for (token, named, granted) in [
        (
            token.as_str(),
            vec![("profile_id", profile.id.as_str())],
            true,
        ),
        (&token, vec![("profile_name", &profile.name)], true),
        (
            &token,
            vec![("profile_id", &profile.id), ("profile_name", &profile.name)],
            true,
        ),
        (&token, vec![], false),
        (&token, vec![("profile_name", "other")], false),
        ("wrong", vec![("profile_id", &profile.id)], false),
    ] {
        let mut fields = vec![("grant_type", COMPUTE_RESOURCE), ("cr_token", token)];
        fields.extend(&named);
        let reply = ask(&simulator, &fields).await;
        assert_eq!(reply.status == StatusCode::OK, granted, "{named:?}");
        if granted {
            let said = claims(&field(&reply, "access_token"));
            assert_eq!(said["sub"], profile.id);
            assert_eq!(said["grant_type"], COMPUTE_RESOURCE);
        }
    }
    simulator.set_compute_resource_token("rotated");
    let fields = [
        ("grant_type", COMPUTE_RESOURCE),
        ("cr_token", &token),
        ("profile_id", &profile.id),
    ];
    assert_eq!(refusal(&ask(&simulator, &fields).await), "BXNIM0401E");
    let tally = simulator.logins().iam_compute_resource;
    assert_eq!((tally.granted, tally.refused), (3, 4));
}

#[tokio::test]
async fn a_client_pair_is_checked_and_brings_a_refresh_token() {
    let simulator = start();
    let key = simulator.iam_api_key();
    let fields = [("grant_type", API_KEY), ("apikey", key.as_str())];
    // The pair that IBM's command line and watsonx.ai client send.
    let reply = ask_as(&simulator, ("bx", "bx"), &fields).await;
    assert_eq!(claims(&field(&reply, "access_token"))["client_id"], "bx");
    let refresh_token = field(&reply, "refresh_token");
    assert_ne!(refresh_token, "not_supported");
    let reply = ask_as(&simulator, ("own", "secret"), &fields).await;
    assert_eq!(refusal(&reply), "BXNIM0106E");

    let again = [
        ("grant_type", "refresh_token"),
        ("refresh_token", &refresh_token),
    ];
    assert_eq!(refusal(&ask(&simulator, &again).await), "BXNIM0109E");
    let reply = ask_as(&simulator, ("bx", "bx"), &again).await;
    assert_eq!(reply.status, StatusCode::OK);
    simulator.set_clock_skew(31 * 24 * 60 * 60);
    let reply = ask_as(&simulator, ("bx", "bx"), &again).await;
    assert_eq!(refusal(&reply), "BXNIM0408E");
    assert_eq!(simulator.logins().iam_refresh_token.attempts, 3);
}

#[tokio::test]
async fn a_client_pair_that_is_set_must_be_there() {
    let simulator = Simulator::start(Options {
        iam_client: Some(("own".to_owned(), "se:cret".to_owned())),
        ..Options::default()
    })
    .unwrap();
    let key = simulator.iam_api_key();
    let fields = [("grant_type", API_KEY), ("apikey", key.as_str())];
    assert_eq!(refusal(&ask(&simulator, &fields).await), "BXNIM0109E");
    let reply = ask_as(&simulator, ("bx", "bx"), &fields).await;
    assert_eq!(refusal(&reply), "BXNIM0106E");
    let reply = ask_as(&simulator, ("own", "se:cret"), &fields).await;
    assert_eq!(reply.status, StatusCode::OK);
    // IBM's SDK cores leave it out when they assume a profile.
    let token = field(&reply, "access_token");
    let fields = [
        ("grant_type", ASSUME),
        ("access_token", &token),
        ("profile_id", &simulator.trusted_profile().id),
    ];
    assert_eq!(ask(&simulator, &fields).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_controls_of_logins_reach_iam() {
    let simulator = start();
    simulator.set_outage(Some(Outage::RateLimited));
    simulator.set_retry_after(Some(std::time::Duration::from_secs(9)));
    let reply = by_key(&simulator).await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(reply.headers[header::RETRY_AFTER], "9");
    assert!(reply.json()["context"].is_object());
    simulator.set_outage(None);

    simulator.set_garbage(Some(Garbage::NullToken));
    assert_eq!(by_key(&simulator).await.json()["access_token"], Value::Null);
    simulator.set_garbage(None);

    simulator.set_token_lifetime(std::time::Duration::from_secs(90));
    assert_eq!(by_key(&simulator).await.json()["expires_in"], 90);
    let old = simulator.iam_api_key();
    simulator.set_iam_api_key("rotated");
    let reply = ask(&simulator, &[("grant_type", API_KEY), ("apikey", &old)]).await;
    assert_eq!(refusal(&reply), "BXNIM0415E");
    assert_eq!(by_key(&simulator).await.status, StatusCode::OK);
}
