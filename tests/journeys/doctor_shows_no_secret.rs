//! What `doctor` prints may be shown to whoever helps: whatever a server makes of what it got, no secret is in it, and
//! nothing that changes how the rest is read.

use std::{io::Write as _, net::SocketAddr};

use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{
    proxy::{World, run},
    scripted::scripted,
};

/// Each encoder of URLs writes it otherwise; no part of eight characters stands in our own words.
const KEY: &str = "qxj7*wvk~zph/+qw=jxk\\vzw&9";

/// A server on whose answers a function decides, by the head of a request.
fn server(answer: impl Fn(&str) -> (&'static str, String) + Send + Sync + 'static) -> SocketAddr {
    scripted(move |stream, head| {
        let (status, body) = answer(&head);
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
        let _ = stream.write_all(answer.as_bytes());
    })
}

/// Runs `doctor` with one credential for one upstream; the key is in the file `key`.
fn doctor(address: SocketAddr, credential: &str, attach: &str, more: &[&str]) -> (i32, String) {
    let world = World::new();
    world.write("key", KEY);
    let config = format!(
        "listener.local = {{ address = '127.0.0.1:0' }}\n[upstream.odd]\nurl = 'http://{address}/base'\n\
         plain_http = true\n[route.odd]\npath = '/'\nupstream = 'odd'\nattach = {attach}\n{credential}"
    );
    world.write(
        "proxy.toml",
        &config.replace("ADDRESS", &address.to_string()),
    );
    let arguments = [&["doctor", "--config", "proxy.toml"], more].concat();
    let (code, output, errors) = run(&arguments, world.folder.path(), "");
    assert_eq!(errors, "", "{output}");
    (code, output)
}

fn assert_hidden(output: &str) {
    for part in ["qxj7", "wvk", "zph", "jxk", "vzw"] {
        assert!(!output.to_lowercase().contains(part), "{part}: {output}");
    }
    let is_unseen =
        |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{200b}\u{2066}".contains(c);
    assert!(!output.contains(is_unseen), "{output:?}");
}

fn jwt(claims: &serde_json::Value) -> String {
    let claims = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("e30.{claims}.c2ln")
}

fn json(message: &str) -> String {
    serde_json::json!({ "message": message }).to_string()
}

#[test]
fn an_input_that_a_command_gives() {
    for content in [
        "json = { auth = \"apikey:{k}\" }",
        "form = { username = \"{k}\" }",
    ] {
        let address = server(|_| ("401 Unauthorized", json(&format!("key {KEY} is not known"))));
        let credential = format!(
            "[credential.odd.steps]\ninputs = {{ k = {{ command = ['cat', 'key'] }} }}\n\
             [[credential.odd.steps.step]]\nurl = 'http://ADDRESS/x'\nplain_http = true\n{content}\n"
        );
        let (code, output) = doctor(address, &credential, "'odd'", &[]);
        assert_eq!(code, 1);
        assert!(output.contains("key *** is not known"), "{output}");
        assert_hidden(&output);
    }
}

#[test]
fn the_path_of_a_step_is_the_template() {
    let address = server(|head| {
        let target = head.split(' ').nth(1).unwrap();
        if target == "/first" {
            let body = serde_json::json!({ "id": 7_654_321, "s": { "k": "zph~77" } });
            return ("200 OK", body.to_string());
        }
        ("404 Not Found", format!("no {target} here"))
    });
    let credential = "[credential.odd.steps]\ninputs = { k = { file = 'key' } }\n\
         [[credential.odd.steps.step]]\nurl = 'http://ADDRESS/first'\nplain_http = true\n\
         take = { id = 'id', sid = 's.k' }\n[[credential.odd.steps.step]]\n\
         url = 'http://ADDRESS/session/{id}/{sid}/{k}?k={k}'\nplain_http = true\n";
    let (_, output) = doctor(address, credential, "'odd'", &[]);
    assert!(
        output.contains("GET /session/{id}/{sid}/{k}: 404 in "),
        "{output}"
    );
    assert!(!output.contains("7654321"), "{output}");
    assert_hidden(&output);
}

#[test]
fn a_url_that_is_quoted() {
    let token = "[credential.odd.token]\nupstream = 'odd'\nvalue = { file = 'key' }\n";
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let quotes: [fn(&str) -> String; 4] = [
        |target| target.to_owned(),
        |target| {
            percent_encoding::percent_decode_str(target)
                .decode_utf8_lossy()
                .into_owned()
        },
        |target| target.replace('%', "%25"),
        |target| {
            target
                .replace('*', "%2A")
                .replace('~', "%7E")
                .to_lowercase()
        },
    ];
    let all = quotes.into_iter().map(Some).chain([None]);
    for quote in all {
        let address = server(move |head| {
            let target = head.split(' ').nth(1).unwrap();
            let text = quote.map_or_else(|| encode(target), |quote| quote(target));
            ("401 Unauthorized", json(&format!("bad {text} there")))
        });
        let attach = "[{ credential = 'odd', query = 'token' }]";
        let (code, output) = doctor(address, token, attach, &["--path", "/products"]);
        assert_eq!(code, 1);
        assert!(output.contains("GET /base/products: 401"), "{output}");
        assert!(
            output.contains("attached     ?token=…, by route odd"),
            "{output}"
        );
        assert!(!output.contains("Bearer"), "{output}");
        assert_hidden(&output);
    }
}

#[test]
fn a_header_that_is_quoted_in_part_or_encoded() {
    let quotes: [fn(&str) -> String; 5] = [
        |value| value[..value.len() - 4].to_owned(),
        |value| BASE64_STANDARD.encode(value),
        |value| format!("x{}", BASE64_STANDARD.encode(format!("ab{value}"))),
        |value| format!("\u{202e}\x1b[31m{value}\u{200b}"),
        |value| value.replacen('v', "v\u{2066}", 1),
    ];
    let basic =
        "[credential.odd.basic]\nupstream = 'odd'\nusername = 'u'\npassword = { file = 'key' }\n";
    let token = "[credential.odd.token]\nupstream = 'odd'\nvalue = { file = 'key' }\n";
    for quote in quotes {
        for credential in [basic, token] {
            let address = server(move |head| {
                let header = head
                    .lines()
                    .find_map(|line| line.strip_prefix("authorization: "));
                (
                    "401 Unauthorized",
                    json(&format!("bad user {} there", quote(header.unwrap()))),
                )
            });
            let (_, output) = doctor(address, credential, "'odd'", &["--path", "/x"]);
            assert_hidden(&output);
            assert!(output.contains("it says: bad user "), "{output}");
            let encoded = BASE64_STANDARD.encode(KEY);
            let pair = BASE64_STANDARD.encode(format!("u:{KEY}"));
            for form in [encoded, BASE64_STANDARD.encode(pair.clone()), pair] {
                for part in form.as_bytes().windows(8) {
                    let part = std::str::from_utf8(part).unwrap();
                    assert!(!output.contains(part), "{part}: {output}");
                }
            }
        }
    }
}

#[test]
fn claims_that_repeat_the_login() {
    let address = server(|_| {
        let token = jwt(&serde_json::json!({
            "sub": format!("pw {KEY}"),
            "username": "\u{202e}abc\u{200b}",
            "iss": BASE64_STANDARD.encode(KEY),
        }));
        ("200 OK", serde_json::json!({ "token": token }).to_string())
    });
    let credential =
        "[credential.odd.cp4d]\nupstream = 'odd'\nusername = 'u'\napi_key = { file = 'key' }\n";
    let (_, output) = doctor(address, credential, "'odd'", &[]);
    assert!(
        output.contains("claims       username abc, sub pw ***, iss ***"),
        "{output}"
    );
    assert!(
        output.contains("POST /icp4d-api/v1/authorize: 200"),
        "{output}"
    );
    assert!(
        output.contains("attached     authorization: Bearer …, by route odd"),
        "{output}"
    );
    assert_hidden(&output);
}

#[test]
fn a_token_that_is_over_is_no_credential() {
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    for (date, exp, is_good) in [
        // By our clock, where the server does not tell its own.
        ("", now - 100, false),
        ("", now + 1000, true),
        // By the server's, which is years behind.
        (
            "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            784_111_700,
            false,
        ),
        ("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 784_115_000, true),
    ] {
        let address = scripted(move |stream, _| {
            let token = jwt(&serde_json::json!({ "iat": exp - 600, "exp": exp }));
            let body = serde_json::json!({ "token": token }).to_string();
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\n{date}Content-Length: {length}\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes());
        });
        let credential =
            "[credential.odd.cp4d]\nupstream = 'odd'\nusername = 'u'\napi_key = { file = 'key' }\n";
        let (_, output) = doctor(address, credential, "'odd'", &["--path", "/x"]);
        let is_told = output.contains("FAIL  credential   handed out a token that is over");
        assert_eq!(is_told, !is_good, "{output}");
        assert_eq!(
            output.contains("not tried: no credential odd"),
            !is_good,
            "{output}"
        );
    }
}

/// Only Linux has a device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_written_is_a_failure() {
    let world = World::new();
    world.write("proxy.toml", &world.config("", crate::proxy::USUAL_ROUTES));
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = crate::proxy::command(&["doctor", "--config", "proxy.toml"], world.folder.path())
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.starts_with("error: standard output: "), "{errors}");
}
