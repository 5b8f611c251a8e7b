//! Logins of IBM Cloud, and of the operator's own making, obtain a token that goes where it was configured for, and
//! leave no trace of a secret in what the proxy prints at its most talkative.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
};

use crate::{
    proxy::{Proxy, World},
    scripted::scripted,
};

#[test]
fn identity_management_in_two_steps_of_ones_own() {
    let world = World::new();
    let platform = world.simulator.platform_url();
    let proxy = world.start(&format!(
        r#"
listener.local = {{ address = "127.0.0.1:0" }}
[credential.own.steps]
upstream = ["platform"]
inputs = {{ user = "canary-user", password = {{ file = "password" }} }}
[[credential.own.steps.step]]
url = "{platform}/idprovider/v1/auth/identitytoken"
tls = {{ ca = "ca.crt" }}
form = {{ grant_type = "password", username = "{{user}}", password = "{{password}}", scope = "openid" }}
take = {{ iam = "access_token" }}
[[credential.own.steps.step]]
url = "{platform}/v1/preauth/validateAuth"
tls = {{ ca = "ca.crt" }}
headers = {{ username = "{{user}}", iam-token = "{{iam}}" }}
[route.own]
path = "/"
upstream = "platform"
attach = "own"
[route.platform]
path = "/idle"
upstream = "platform"
attach = "platform"
[route.license]
path = "/license"
upstream = "license"
attach = "license"
"#
    ));
    proxy.ready();
    let answer = proxy.get("/ml/v1/foundation_model_specs?version=2025-02-01", &[]);
    assert_eq!(answer.status, 200, "{}", answer.head);
    world.end(proxy);
}

#[test]
fn one_token_of_ibm_cloud_goes_to_both_of_its_hosts() {
    let world = World::new();
    world.write("secret", SECRET);
    let iam = Server::start(r#"{"access_token":"canary-cloud-token","expires_in":3600}"#);
    let (models, data) = (Server::start("{}"), Server::start("{}"));
    let proxy = start(
        &world,
        &format!(
            r#"
[upstream.models]
url = "http://{models}"
plain_http = true
[upstream.data]
url = "http://{data}"
plain_http = true
[credential.cloud.iam]
upstream = ["models", "data"]
auth_url = "http://{iam}/identity/token"
plain_http = true
apikey = {{ file = "secret" }}
[route.models]
path = "/ml"
upstream = "models"
attach = "cloud"
[route.data]
path = "/v2"
upstream = "data"
attach = "cloud"
"#,
            models = models.address,
            data = data.address,
            iam = iam.address,
        ),
    );
    assert_eq!(proxy.get("/ml/v1/x", &[]).status, 200);
    assert_eq!(proxy.get("/v2/projects", &[]).status, 200);
    for server in [&models, &data] {
        let bearer = "authorization: Bearer canary-cloud-token\r\n";
        assert!(
            server.got()[0]
                .to_lowercase()
                .contains(&bearer.to_lowercase())
        );
    }
    let logins = iam.got();
    assert_eq!(logins.len(), 1, "one token for both: {logins:?}");
    assert!(logins[0].starts_with("POST /identity/token HTTP/1.1\r\n"));
    let secrets = ["canary-cloud-token", SECRET].map(str::to_owned);
    proxy.end(secrets.to_vec());
}

#[test]
fn a_secret_in_the_url_of_a_step_is_not_printed() {
    let world = World::new();
    world.write("secret", SECRET);
    let login = Server::start(r#"{"data":{"jwt":"canary-own-token","session":"canary-session"}}"#);
    let upstream = Server::start("{}");
    let proxy = start(
        &world,
        &format!(
            r#"
[upstream.own]
url = "http://{upstream}"
plain_http = true
[credential.own.steps]
upstream = "own"
inputs = {{ key = {{ file = "secret" }} }}
[[credential.own.steps.step]]
url = "http://{login}/keys/{{key}}?again={{key}}"
plain_http = true
headers = {{ X-Once-More = "{{key}}" }}
take = {{ session = "data.session" }}
[[credential.own.steps.step]]
url = "http://{login}/sessions"
plain_http = true
json = {{ list = ["{{session}}", "{{key}}"] }}
token = "data.jwt"
[route.own]
path = "/"
upstream = "own"
attach = "own"
"#,
            login = login.address,
            upstream = upstream.address,
        ),
    );
    assert_eq!(proxy.get("/x", &[]).status, 200);
    let got = login.got();
    let line = "GET /keys/canary%26secret%2F50%25?again=canary%26secret%2F50%25 HTTP/1.1\r\n";
    assert!(got[0].starts_with(line), "{}", got[0]);
    let json = r#"{"list":["canary-session","canary&secret/50%"]}"#;
    assert!(got[1].ends_with(json), "{}", got[1]);
    let got = upstream.got();
    assert!(got[0].contains("Bearer canary-own-token"), "{}", got[0]);
    let secrets = ["canary-own-token", "canary-session", SECRET].map(str::to_owned);
    proxy.end(secrets.to_vec());
}

/// A proxy with one listener and these tables, once its credentials are there.
fn start(world: &World, tables: &str) -> Proxy {
    let proxy = world.start_with(&format!(
        "workers = 1\nadmin.address = '127.0.0.1:0'\nlistener.local = {{ address = '127.0.0.1:0' }}\n{tables}"
    ));
    proxy.ready();
    proxy
}

/// Answers every request in the same way, and keeps what was sent.
struct Server {
    address: SocketAddr,
    got: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(json: &'static str) -> Self {
        let got = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&got);
        let address = scripted(move |stream, head| {
            let request = head.clone() + &body(stream, &head);
            kept.lock().unwrap().push(request);
            let length = json.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{json}"
            );
            let _ = stream.write_all(answer.as_bytes());
        });
        Self { address, got }
    }

    fn got(&self) -> Vec<String> {
        self.got.lock().unwrap().clone()
    }
}

/// What follows a head: left unread, it would make the server's end of the connection a reset.
fn body(stream: &mut TcpStream, head: &str) -> String {
    let lines = head.lines().map(str::to_ascii_lowercase);
    let mut lengths = lines.filter_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; lengths.next().unwrap_or(0)];
    stream.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

const SECRET: &str = "canary&secret/50%";
