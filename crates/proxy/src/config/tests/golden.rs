//! The texts that an operator sees.

use expect_test::expect;

use super::{load, with};

/// With the places of the usual build in its hints.
#[cfg(all(feature = "kube", not(feature = "keyring")))]
#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let text = r#"
workerz = 2
drain_timeout = "30 parsecs"

[listener.app]
address = ":8080"
callers = ["grafana"]

[listener.Wide]
address = "0.0.0.0:8081"
routes = ["platfrom"]

[upstream.platform]
url = "http://cpd.example.com"
tls = { insecure = "yes", cert = "a.pem" }

[upstream.secretive]
url = "https://admin:hunter2@cpd.example.com"

[credential.platform.cp4d]
upstream = "platform"
api_key = "hunter2"   # was hunter3
password = { file = "/no/such/password" }

[credential.cloud.iam]
apikey = "hunter2"

[route.platform]
path = "/ml//v1"
upstream = "platform"
attach = "platfrm"
preset = "watson"
set_headers = { Authorization = "Bearer hunter2" }
"#;
    let report = load(text).unwrap_err().to_string();
    assert!(!report.contains("hunter"), "{report}");
    expect![[r#"
        error: unknown key
         --> proxy.toml:2:1
          |
        2 | workerz = *
          | ^^^^^^^
          |
          = help: did you mean `workers`?

        error: not a time
         --> proxy.toml:3:17
          |
        3 | drain_timeout = "**********"
          |                 ^^^^^^^^^^^^
          |
          = help: a number and a unit in quotes: "500ms", "30s", "5m" or "1h"

        error: the address before the port is missing
         --> proxy.toml:6:11
          |
        6 | address = "*****"
          |           ^^^^^^^
          |
          = help: "127.0.0.1:PORT" is for this machine only, "0.0.0.0:PORT" for the network

        error: there is no caller of this name
         --> proxy.toml:7:12
          |
        7 | callers = ["*******"]
          |            ^^^^^^^^^
          |
          = help: there is no [caller.…] table at all

        error: not a name for a table
         --> proxy.toml:9:11
          |
        9 | [listener.Wide]
          |           ^^^^
          |
          = help: a name is made of a-z, 0-9, `_` and `-`, and has at most 64 characters

        error: anyone who reaches this address would act with the proxy's credentials
          --> proxy.toml:10:11
           |
        10 | address = "0.0.0.0:8081"
           |           ^^^^^^^^^^^^^^
           |
           = help: callers = ["NAME"] of [caller.NAME] tables; or listen on 127.0.0.1 or a unix socket; or waive it by name: anyone = true

        error: there is no route of this name
          --> proxy.toml:11:11
           |
        11 | routes = ["platfrom"]
           |           ^^^^^^^^^^
           |
           = help: did you mean `platform`?

        error: credentials would cross the network in the clear
          --> proxy.toml:14:7
           |
        14 | url = "http://cpd.example.com"
           |       ^^^^^^^^^^^^^^^^^^^^^^^^
           |
           = help: write https://, or waive TLS by name: plain_http = true

        error: tls has no meaning for an http:// url
          --> proxy.toml:15:1
           |
        15 | tls = { insecure = "***", cert = "*****" }
           | ^^^
           |
           = help: leave it out, or write https:// in url

        error: true or false is wanted here, this is a string
          --> proxy.toml:15:20
           |
        15 | tls = { insecure = "***", cert = "*****" }
           |                    ^^^^^
           |
           = help: insecure = true

        error: unknown key
          --> proxy.toml:15:27
           |
        15 | tls = { insecure = "***", cert = "*****" }
           |                           ^^^^
           |
           = help: the keys here are ca, certificate, insecure, key, pin, server_name

        error: a URL must not carry a user or password
          --> proxy.toml:18:7
           |
        18 | url = "*************************************"
           |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
           |
           = help: leave out `user:password@`; a [credential.…] table says who the proxy is

        error: username is missing
          --> proxy.toml:20:22
           |
        20 | [credential.platform.cp4d]
           |                      ^^^^
           |
           = help: username = "svc-watsonx", or a place

        error: a secret is never written in the configuration
          --> proxy.toml:22:11
           |
        22 | api_key = "*******"
           |           ^^^^^^^^^
           |
           = help: write where it is read: { file = "/run/secrets/api_key" }, { file = "key.json", field = "apikey" }, { env = "NAME" }, { systemd = "name" }, { command = ["op", "read", "…"] } or { kubernetes_secret = { … } }

        error: both api_key and password
          --> proxy.toml:23:1
           |
        23 | password = { file = "*****************" }
           | ^^^^^^^^
           |
           = help: keep one; the platform takes an API key even where passwords are off

        warning: this file is not there
          --> proxy.toml:23:21
           |
        23 | password = { file = "*****************" }
           |                     ^^^^^^^^^^^^^^^^^^^
           |
           = help: it may come later: the proxy starts without it, what needs it waits

        error: a secret is never written in the configuration
          --> proxy.toml:26:10
           |
        26 | apikey = "*******"
           |          ^^^^^^^^^
           |
           = help: write where it is read: { file = "/run/secrets/apikey" }, { file = "key.json", field = "apikey" }, { env = "NAME" }, { systemd = "name" }, { command = ["op", "read", "…"] } or { kubernetes_secret = { … } }

        error: empty segment in the path
          --> proxy.toml:29:8
           |
        29 | path = "*******"
           |        ^^^^^^^^^
           |
           = help: write one slash instead of several

        error: there is no credential of this name
          --> proxy.toml:31:10
           |
        31 | attach = "platfrm"
           |          ^^^^^^^^^
           |
           = help: did you mean `platform`?

        error: not a value of preset
          --> proxy.toml:32:10
           |
        32 | preset = "watson"
           |          ^^^^^^^^
           |
           = help: did you mean `watsonx`?

        error: this looks like a credential
          --> proxy.toml:33:17
           |
        33 | set_headers = { Authorization = "**************" }
           |                 ^^^^^^^^^^^^^
           |
           = help: a secret is never written in the configuration: make it a [credential.NAME.token] and attach it, [{ credential = "NAME", header = "…" }]

        20 mistakes, 1 warning"#]].assert_eq(&report);
}

#[test]
fn what_is_not_toml_is_told_without_the_line() {
    let report = load("[credential.a.cp4d]\napi_key = \"hunter2\npassword = hunter2\n");
    let report = report.unwrap_err().to_string();
    assert!(!report.contains("hunter"), "{report}");
    expect![[r#"
        error: this is not TOML: invalid basic string, expected `"`
         --> proxy.toml:2:19
          |
        2 | ******* = "*******
          |                   ^
          |
          = help: words are masked here, one of them might be a secret; see the line in the file

        error: this is not TOML: string values must be quoted, expected literal string
         --> proxy.toml:3:12
          |
        3 | ******** = *******
          |            ^^^^^^^
          |
          = help: words are masked here, one of them might be a secret; see the line in the file

        2 mistakes"#]]
    .assert_eq(&report);
}

#[test]
fn an_empty_file_is_told_what_it_lacks() {
    expect![[r#"
        error: there is no route
        --> proxy.toml
         = help: [route.NAME] with path = "/" and upstream = "NAME"

        error: there is no listener: nobody could call
        --> proxy.toml
         = help: [listener.local] with address = "127.0.0.1:8080"

        2 mistakes"#]]
    .assert_eq(&load("").unwrap_err().to_string());
}

#[test]
fn a_missing_file_is_a_warning() {
    let loaded = load(&with("")).unwrap();
    let [warning] = &loaded.warnings[..] else {
        panic!("{:?}", loaded.warnings)
    };
    expect![[r#"
        warning: this file is not there
          --> proxy.toml:10:20
           |
        10 | api_key = { file = "************" }
           |                    ^^^^^^^^^^^^^^
           |
           = help: it may come later: the proxy starts without it, what needs it waits"#]]
    .assert_eq(&warning.to_string());
}
