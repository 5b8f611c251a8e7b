//! What is written of the kinds of IBM Cloud and of the SaaS on AWS arrives.

use token_source::{
    Kind, Location, Origin,
    credential::{
        Text,
        cloud::{CR_TOKEN_FILES, ImsVersion, Profile, ScopeCollection, VpcProfile},
    },
};

use super::{line_of, load, with};

/// The kind of the one credential `new`, attached to the base upstream.
fn kind(tables: &str) -> Kind {
    let route = "[route.new]\npath = \"/new\"\nupstream = \"base\"\nattach = \"new\"\n";
    let loaded =
        load(&with(&format!("{tables}\n{route}"))).unwrap_or_else(|report| panic!("{report}"));
    let credentials = loaded.config.credentials.into_iter();
    let mut found = credentials.filter(|one| &*one.name == "new");
    found.next().unwrap().kind
}

fn is(text: Option<&Text>, expected: &str) -> bool {
    matches!(text, Some(Text::Literal(text)) if text == expected)
}

fn url(origin: &Origin) -> String {
    origin.url()
}

#[test]
fn what_is_not_written_is_as_in_ibms_sdks() {
    let Kind::Iam(iam) = kind("[credential.new.iam]\napikey = { env = \"K\" }") else {
        panic!()
    };
    assert_eq!(url(&iam.origin), "https://iam.cloud.ibm.com");
    assert!(iam.client.is_none() && iam.scope.is_none());
    let text = "[credential.new.container]\niam_profile_id = \"Profile-1\"";
    let Kind::Container(container) = kind(text) else {
        panic!()
    };
    assert_eq!(url(&container.origin), "https://iam.cloud.ibm.com");
    assert_eq!(container.cr_token, Location::FirstOf(CR_TOKEN_FILES));
    let Kind::Vpc(vpc) = kind("[credential.new.vpc]") else {
        panic!()
    };
    assert_eq!(url(&vpc.origin), "http://169.254.169.254");
    assert_eq!(vpc.version, ImsVersion::V20220301);
    assert!(vpc.profile.is_none());
    let text = r#"
[credential.new.mcsp_v2]
auth_url = "https://account-iam.platform.saas.ibm.com"
apikey = { env = "K" }
scope_collection_type = "services"
scope_id = "7"
"#;
    let Kind::McspV2(mcsp) = kind(text) else {
        panic!()
    };
    assert_eq!(mcsp.collection, ScopeCollection::Services);
    assert!(!mcsp.include_builtin_actions && !mcsp.include_custom_actions && !mcsp.prefix_roles);
    assert!(mcsp.include_roles && mcsp.caller_ext_claim.is_none());
}

#[test]
fn what_is_written_arrives() {
    let text = r#"
[credential.new.iam_assume]
auth_url = "https://iam.test.cloud.ibm.com/identity/token"
tls = { ca = { env = "CA" } }
apikey = { env = "K" }
client_id = "bx"
client_secret = { env = "S" }
scope = "ibm"
iam_profile_name = "n"
iam_account_id = "a"
"#;
    let Kind::IamAssume(assume) = kind(text) else {
        panic!()
    };
    assert_eq!(url(&assume.login.origin), "https://iam.test.cloud.ibm.com");
    assert_ne!(*assume.login.origin.trust, token_source::Trust::default());
    assert!(is(assume.login.scope.as_ref(), "ibm"));
    assert!(is(
        assume.login.client.as_ref().map(|client| &client.id),
        "bx"
    ));
    assert!(
        matches!(&assume.profile, Profile::Name { name, account } if is(Some(name), "n") && is(Some(account), "a"))
    );
    let text = r#"
[credential.new.container]
url = "http://127.0.0.1:80/base"
plain_http = true
cr_token_filename = "/a/token"
iam_profile_id = "i"
iam_profile_name = { env = "N" }
"#;
    let Kind::Container(container) = kind(text) else {
        panic!()
    };
    assert_eq!(url(&container.origin), "http://127.0.0.1/base");
    assert!(
        matches!(&container.cr_token, Location::File { path, .. } if path.ends_with("a/token"))
    );
    assert!(is(container.profile_id.as_ref(), "i"));
    assert!(matches!(container.profile_name, Some(Text::Location(_))));
    let text = r#"
[credential.new.vpc]
auth_url = "https://api.metadata.cloud.ibm.com/identity/v1/token"
vpc_ims_version = "2025-08-26"
iam_profile_name = "n"
"#;
    let Kind::Vpc(vpc) = kind(text) else { panic!() };
    assert_eq!(url(&vpc.origin), "https://api.metadata.cloud.ibm.com");
    assert_eq!(vpc.version, ImsVersion::V20250826);
    assert!(matches!(&vpc.profile, Some(VpcProfile::Name(name)) if is(Some(name), "n")));
    let text = r#"
[credential.new.mcsp]
auth_url = "https://iam.platform.saas.ibm.com/siusermgr/api/1.0/apikeys/token"
apikey = { file = "apikey.json", field = "apikey" }
"#;
    let Kind::Mcsp(mcsp) = kind(text) else {
        panic!()
    };
    assert_eq!(url(&mcsp.origin), "https://iam.platform.saas.ibm.com");
    let text = r#"
[credential.new.mcsp_v2]
auth_url = "https://account-iam.platform.saas.ibm.com/api/2.0/accounts/7/apikeys/token"
apikey = { env = "K" }
scope_collection_type = "accounts"
scope_id = "7"
include_builtin_actions = true
include_custom_actions = true
include_roles = false
prefix_roles = true
caller_ext_claim = '{"productID":"p"}'
"#;
    let Kind::McspV2(mcsp) = kind(text) else {
        panic!()
    };
    assert_eq!(
        url(&mcsp.origin),
        "https://account-iam.platform.saas.ibm.com"
    );
    assert!(mcsp.include_builtin_actions && mcsp.include_custom_actions && mcsp.prefix_roles);
    assert!(!mcsp.include_roles && mcsp.caller_ext_claim.is_some());
}

#[test]
fn the_url_of_cp4d_may_have_any_part_of_the_login_path() {
    for path in [
        "",
        "/",
        "/icp4d-api",
        "/icp4d-api/",
        "/icp4d-api/v1/authorize",
    ] {
        let text = format!(
            "[credential.new.cp4d]\nurl = \"https://cpd.example.com{path}\"\nusername = \"u\"\napi_key = {{ env = \"K\" }}"
        );
        let Kind::Cp4d { origin, .. } = kind(&text) else {
            panic!()
        };
        assert_eq!(url(&origin), "https://cpd.example.com", "{path}");
    }
}

#[test]
fn the_metadata_service_needs_no_waiver() {
    for address in [
        "",
        "auth_url = \"http://169.254.169.254/\"",
        "url = \"http://169.254.169.254:80/identity/v1/token\"",
    ] {
        let text = with(&format!("[credential.new.vpc]\n{address}\n"));
        let loaded = load(&text).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(loaded.config.waivers, []);
    }
    let text = with("[credential.new.vpc]\nurl = \"http://127.0.0.1:1\"\nplain_http = true\n");
    assert_eq!(load(&text).unwrap().config.waivers.len(), 1);
    // The address is nothing special to a kind that sends a secret there.
    let text = "[credential.new.iam]\napikey = { env = \"K\" }\nurl = \"http://169.254.169.254\"\nplain_http = true\n";
    let loaded = load(&with(text)).unwrap();
    assert_eq!(loaded.config.waivers.len(), 1);
    let told: Vec<_> = loaded
        .warnings
        .iter()
        .map(|warning| &*warning.what)
        .collect();
    assert!(
        !told.iter().any(|what| what.contains("plain_http")),
        "{told:?}"
    );
}

#[test]
fn one_token_goes_to_both_hosts_of_ibm_cloud() {
    let text = r#"
[upstream.wml]
url = "https://us-south.ml.cloud.ibm.com"
[upstream.data]
url = "https://api.dataplatform.cloud.ibm.com"
[credential.cloud.iam]
upstream = ["wml", "data"]
apikey = { env = "K" }
[route.ml]
path = "/ml"
upstream = "wml"
attach = "cloud"
[route.v2]
path = "/v2"
upstream = "data"
attach = "cloud"
"#;
    load(&with(text)).unwrap_or_else(|report| panic!("{report}"));
}

#[test]
fn a_container_without_a_token_is_warned_of() {
    let text = with("[credential.new.container]\niam_profile_id = \"i\"\n");
    let warnings = load(&text).unwrap().warnings;
    let what =
        "this is no container with a compute-resource token: none of its usual files is there";
    let is_told = warnings
        .iter()
        .any(|warning| line_of(warning) == 1 && warning.what == what);
    assert!(is_told, "{warnings:?}");
}
