//! What is told of mistakes in the properties.

use expect_test::expect;

use super::*;

#[test]
fn lines_that_say_nothing_are_told() {
    let text = format!(
        "\u{feff}WATSONX_URL=https://cpd.example.com\nWATSONX_AUTH_TYPE=noAuth\n{CANARY}\nexport WATSONX_APIKEY={CANARY}\n\
         export OTHER_URL=x\n# {CANARY}\n\n{CANARY}\nexport  WATSONX_USERNAME={CANARY}\n"
    );
    let setting = Setting::new().file("home/ibm-credentials.env", &text);
    expect![[r#"
        warning: passed over: lines 3, 8 without `=`
         --> FOLDER/home/ibm-credentials.env:3:1
          |
        3 | ***
          | ^^^
          |
          = help: WATSONX_NAME=VALUE; a comment begins with `#`
        warning: passed over: lines 4, 9 with `export`
         --> FOLDER/home/ibm-credentials.env:4:1
          |
        4 | ***
          | ^^^
          |
          = help: WATSONX_NAME=VALUE alone: IBM's SDKs do not read such a line either
    "#]]
    .assert_eq(&setting.told());

    let text = format!("export WATSONX_URL=x\n{CANARY}\n");
    let setting = Setting::new().file("home/ibm-credentials.env", &text);
    expect![[r#"
        error: --ibm-env: there is no property WATSONX_…
         |
         = help: looked for $IBM_CREDENTIALS_FILE, ./ibm-credentials.env, ~/ibm-credentials.env, environment variables, $VCAP_SERVICES: WATSONX_URL and WATSONX_AUTH_TYPE, for instance

        warning: passed over: line 2 without `=`
         --> FOLDER/home/ibm-credentials.env:2:1
          |
        2 | ***
          | ^^^
          |
          = help: WATSONX_NAME=VALUE; a comment begins with `#`

        warning: passed over: line 1 with `export`
         --> FOLDER/home/ibm-credentials.env:1:1
          |
        1 | ***
          | ^^^
          |
          = help: WATSONX_NAME=VALUE alone: IBM's SDKs do not read such a line either

        1 mistake, 2 warnings"#]].assert_eq(&setting.told());

    // Where the properties are elsewhere, it is not for this file to say them.
    let setting = setting.all(&CP4D_VARIABLES);
    assert_eq!(setting.told(), "");
}

#[test]
fn every_mistake_is_told_at_once() {
    let text = format!(
        "WATSONX_URL=https://{CANARY}@host\n\
         # WATSONX_APIKEY={CANARY}\n\
         WATSONX_AUTH_TYPE=CP4D\n\
         WATSONX_USERNAM={CANARY}\n\
         WATSONX_PASSWORD=\"{CANARY}\"\n\
         WATSONX_APIKEY={CANARY}\n\
         WATSONX_SCOPE=x\n\
         WATSONX_ENABLE_GZIP=true\n\
         WATSONX_PROJECT_ID={CANARY}\n\
         WATSONX_APIKEY{CANARY}==\n\
         WATSONX_AUTH_DISABLE_SSL={CANARY}\n"
    );
    let setting = Setting::new().file("home/ibm-credentials.env", &text);
    expect![[r#"
        error: WATSONX_USERNAME is missing
        --> FOLDER/home/ibm-credentials.env
         = help: this login needs it

        error: a URL must not carry a user or password
         --> FOLDER/home/ibm-credentials.env:1:1
          |
        1 | WATSONX_URL=***
          | ^^^^^^^^^^^
          |
          = help: leave out `user:password@`; a [credential.…] table says who the proxy is

        error: not a property of IBM's SDKs
         --> FOLDER/home/ibm-credentials.env:4:1
          |
        4 | WATSONX_USERNAM=***
          | ^^^^^^^^^^^^^^^
          |
          = help: did you mean `WATSONX_USERNAME`?

        warning: the quotes are part of the value
         --> FOLDER/home/ibm-credentials.env:5:1
          |
        5 | WATSONX_PASSWORD=***
          | ^^^^^^^^^^^^^^^^
          |
          = help: leave them out, unless they belong to it

        error: there is an APIKEY as well
         --> FOLDER/home/ibm-credentials.env:5:1
          |
        5 | WATSONX_PASSWORD=***
          | ^^^^^^^^^^^^^^^^
          |
          = help: keep one of the two

        warning: the login cp4d does not use it
         --> FOLDER/home/ibm-credentials.env:7:1
          |
        7 | WATSONX_SCOPE=***
          | ^^^^^^^^^^^^^
          |
          = help: it uses AUTH_URL, AUTH_DISABLE_SSL, USERNAME, PASSWORD, APIKEY, CP4D_ACCOUNT_ID

        warning: it means nothing to a proxy
         --> FOLDER/home/ibm-credentials.env:8:1
          |
        8 | WATSONX_ENABLE_GZIP=***
          | ^^^^^^^^^^^^^^^^^^^
          |
          = help: it stays with the clients

        warning: not a property of IBM's SDKs
         --> FOLDER/home/ibm-credentials.env:9:1
          |
        9 | WATSONX_PROJECT_ID=***
          | ^^^^^^^^^^^^^^^^^^
          |
          = help: it is not used; other programs may know it

        warning: not a property of IBM's SDKs
          --> FOLDER/home/ibm-credentials.env:10:1
           |
        10 | WATSONX_…=***
           | ^^^^^^^^^
           |
           = help: it is not used; other programs may know it

        error: neither true nor false
          --> FOLDER/home/ibm-credentials.env:11:1
           |
        11 | WATSONX_AUTH_DISABLE_SSL=***
           | ^^^^^^^^^^^^^^^^^^^^^^^^
           |
           = help: true or false

        5 mistakes, 5 warnings"#]]
    .assert_eq(&setting.told());
}

#[test]
fn what_is_not_there_is_told() {
    expect![[r#"
        error: --ibm-env: there is no property WATSONX_…
         |
         = help: looked for $IBM_CREDENTIALS_FILE, ./ibm-credentials.env, ~/ibm-credentials.env, environment variables, $VCAP_SERVICES: WATSONX_URL and WATSONX_AUTH_TYPE, for instance

        1 mistake"#]].assert_eq(&Setting::new().told());
    let only_url = Setting::new().set("WATSONX_URL", "https://h");
    expect![[r#"
        error: --ibm-env: WATSONX_IAM_PROFILE_ID is missing
         |
         = help: this login needs it, or IAM_PROFILE_NAME

        1 mistake"#]]
    .assert_eq(&only_url.told());
    let mut nameless = Setting::new();
    nameless.form.ibm_env = Some(format!("{CANARY}="));
    nameless.form.listen = Some("0.0.0.0:1".into());
    expect![[r#"
        error: --listen: anyone who reaches this address would act with your credential
         |
         = help: 127.0.0.1:8080; for others to use it write a file, with anyone = true and a preset

        error: --ibm-env: not the name of a service
         |
         = help: the part of WATSONX_URL and WATSONX_APIKEY before URL and APIKEY: --ibm-env WATSONX

        2 mistakes"#]]
    .assert_eq(&nameless.told());
    let unreadable = Setting::new().set("IBM_CREDENTIALS_FILE", "/no/such/file");
    expect![[r#"
        error: the configuration cannot be read
        --> /no/such/file
         = help: there is no such file

        1 mistake"#]]
    .assert_eq(&unreadable.told());
    let near = Setting::new()
        .all(&CP4D_VARIABLES)
        .set("WATSONX_AUTH_TYPE", "cpd4");
    expect![[r#"
        error: $WATSONX_AUTH_TYPE: not a way to log in
         |
         = help: did you mean `cp4d`?

        1 mistake"#]]
    .assert_eq(&near.told());
}
