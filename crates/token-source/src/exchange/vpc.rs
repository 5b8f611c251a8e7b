//! `vpc`: a token of the virtual machine that this runs on; its metadata service vouches for it, so there is no secret.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Request, header};
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::{Attempt, Exchange, ExchangeError, Grant, Record, answer::Issued, read_text, request};
use crate::{
    clock,
    connect::Connector,
    credential::{
        self,
        cloud::{IAM_PROFILE_CRN, IAM_PROFILE_ID, IAM_PROFILE_NAME, ImsVersion, VpcProfile},
    },
    http::{self as endpoint, Body},
};

pub(super) struct Vpc {
    pub(super) server: Connector,
    pub(super) settings: credential::Vpc,
    pub(super) fallback: Duration,
}

impl Exchange for Vpc {
    fn exchange<'a>(&'a self, record: &'a Record) -> Attempt<'a> {
        Box::pin(self.obtain(record))
    }
}

impl Vpc {
    async fn obtain(&self, record: &Record) -> Result<Grant, ExchangeError> {
        let profile = self.profile(record).await?;
        let [identity, iam] = match self.settings.version {
            ImsVersion::V20220301 => PATHS_OF_2022,
            ImsVersion::V20250826 => PATHS_OF_2025,
        };
        let lifetime = request::json(&json!({ "expires_in": IDENTITY_LIFETIME }));
        let asked = request(Method::PUT, identity.target, lifetime);
        let answer = endpoint::send(&self.server, asked, record).await?;
        let instance = Issued::from_answer(identity.name, &answer, record)?;

        let mut asked = request(Method::POST, iam.target, profile);
        let bearer = request::bearer(&instance.value);
        asked.headers_mut().insert(header::AUTHORIZATION, bearer);
        let sent = clock::now();
        let answer = endpoint::send(&self.server, asked, record).await?;
        Ok(Issued::from_answer(iam.name, &answer, record)?.into_grant(sent, self.fallback))
    }

    /// The body that names the profile; empty for the one that the machine was given.
    async fn profile(&self, record: &Record) -> Result<Body, ExchangeError> {
        let (name, key, text) = match &self.settings.profile {
            None => return Ok(Body::default()),
            Some(VpcProfile::Crn(crn)) => ("crn", IAM_PROFILE_CRN, crn),
            Some(VpcProfile::Id(id)) => ("id", IAM_PROFILE_ID, id),
            Some(VpcProfile::Name(profile)) => ("name", IAM_PROFILE_NAME, profile),
        };
        let text = read_text(key, text, record).await?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the name of a profile, for the machine's own metadata service"
        )]
        let profile = json!({ "trusted_profile": { name: text.expose_secret() } });
        Ok(request::json(&profile))
    }
}

fn request(method: Method, target: &'static str, body: Body) -> Request<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .body(body)
        .expect("a target is a path and a query");
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, request::JSON);
    // Without it the service takes the request for one that somebody tricked the machine into.
    headers.insert(METADATA_FLAVOR, HeaderValue::from_static("ibm"));
    request
}

/// A path for people to know it by, and what is asked for.
#[derive(Clone, Copy)]
struct Endpoint {
    name: &'static str,
    target: &'static str,
}

const PATHS_OF_2022: [Endpoint; 2] = [
    Endpoint {
        name: "/instance_identity/v1/token",
        target: "/instance_identity/v1/token?version=2022-03-01",
    },
    Endpoint {
        name: "/instance_identity/v1/iam_token",
        target: "/instance_identity/v1/iam_token?version=2022-03-01",
    },
];
const PATHS_OF_2025: [Endpoint; 2] = [
    Endpoint {
        name: "/identity/v1/token",
        target: "/identity/v1/token?version=2025-08-26",
    },
    Endpoint {
        name: "/identity/v1/iam_tokens",
        target: "/identity/v1/iam_tokens?version=2025-08-26",
    },
];
const METADATA_FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");
/// In seconds: for the next request, as IBM's SDKs have it.
const IDENTITY_LIFETIME: u32 = 300;
