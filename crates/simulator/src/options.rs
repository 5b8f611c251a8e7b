//! What a simulator starts with: addresses, TLS and the credentials that it accepts.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use crate::{fingerprint, random_alphanumeric};

/// What a [`Simulator`](crate::Simulator) starts with. The default listens on free loopback ports over TLS, with
/// credentials that are random but start with `sim-`, so that a leak is easy to recognise.
#[derive(Clone)]
pub struct Options {
    /// Where the platform listens; port 0 takes a free one.
    pub platform_address: SocketAddr,
    /// Where License Service listens; port 0 takes a free one.
    pub license_address: SocketAddr,
    /// Where the Watson Data APIs (`/v2`) listen, if they have a host of their own as on IBM Cloud; the platform's
    /// port then serves all but these. The tokens are the same on both.
    pub data_platform_address: Option<SocketAddr>,
    /// TLS with a certificate made at start; plain HTTP otherwise.
    pub tls: bool,
    /// The one user of the platform.
    pub username: String,
    /// The user's password.
    pub password: String,
    /// The user's API key, as `authorize` and `ZenApiKey` take it.
    pub api_key: String,
    /// On a multi-tenant platform: the account that a login must name. Without it `account_id` is ignored.
    pub account_id: Option<String>,
    /// The API key that IBM Cloud IAM takes.
    pub iam_api_key: String,
    /// The client id and secret that a request to IAM must bring; without them none is needed, and `bx:bx` is known.
    pub iam_client: Option<(String, String)>,
    /// The compute resource token that IAM takes.
    pub compute_resource_token: String,
    /// The profile that can be assumed, and that is linked to the compute resource and the virtual server.
    pub trusted_profile: TrustedProfile,
    /// The API key that the Multi-Cloud SaaS Platform takes.
    pub mcsp_api_key: String,
    /// The scope that it takes in the path, as `collection/id`.
    pub mcsp_scope: String,
    /// License Service's API token, for `?token=`.
    pub license_token: String,
    /// A Kubernetes service-account token that License Service accepts as Bearer.
    pub service_account_token: String,
    /// How long a platform token lives, in whole seconds.
    pub token_lifetime: Duration,
    /// `spec.features.auth.urlBasedEnabled` of License Service: whether `?token=` is accepted at all.
    pub url_based_enabled: bool,
    /// A path under which License Service lives, such as `/ibm-licensing-service-instance` behind an ingress.
    pub license_base_path: Option<String>,
    /// The pause before each frame of a streamed answer but the first.
    pub frame_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            platform_address: loopback,
            license_address: loopback,
            data_platform_address: None,
            tls: true,
            username: "svc-watsonx".to_owned(),
            password: format!("sim-password-{}", random_alphanumeric(16)),
            api_key: format!("sim-apikey-{}", random_alphanumeric(29)),
            account_id: None,
            iam_api_key: format!("sim-iam-{}", random_alphanumeric(36)),
            iam_client: None,
            compute_resource_token: format!("sim-compute-resource-{}", random_alphanumeric(32)),
            trusted_profile: TrustedProfile::default(),
            mcsp_api_key: format!("sim-mcsp-{}", random_alphanumeric(36)),
            mcsp_scope: "services/20260115-0800-1234-5678-9abcdef01234".to_owned(),
            license_token: format!("sim-license-{}", random_alphanumeric(24)),
            service_account_token: format!("sim-service-account-{}", random_alphanumeric(32)),
            token_lifetime: Duration::from_hours(12),
            url_based_enabled: true,
            license_base_path: None,
            frame_interval: Duration::from_millis(20),
        }
    }
}

/// A trusted profile of IBM Cloud IAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProfile {
    /// Its id, which starts with `Profile-`.
    pub id: String,
    /// Its name, unique in its account.
    pub name: String,
    /// The account that it belongs to.
    pub account: String,
}

impl TrustedProfile {
    /// Its cloud resource name.
    #[must_use]
    pub fn crn(&self) -> String {
        format!(
            "crn:v1:bluemix:public:iam-identity::a/{}::profile:{}",
            self.account, self.id
        )
    }
}

impl Default for TrustedProfile {
    fn default() -> Self {
        Self {
            id: "Profile-8dd84246-7df4-4667-94e4-8cede51d5ac5".to_owned(),
            name: "simulated-profile".to_owned(),
            account: "5f1e7a0e4c1e4b6e9a550d5f8f2b7c31".to_owned(),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("platform_address", &self.platform_address)
            .field("license_address", &self.license_address)
            .field("data_platform_address", &self.data_platform_address)
            .field("tls", &self.tls)
            .field("username", &self.username)
            .field("password", &fingerprint(&self.password))
            .field("api_key", &fingerprint(&self.api_key))
            .field("iam_api_key", &fingerprint(&self.iam_api_key))
            .field("trusted_profile", &self.trusted_profile)
            .field("mcsp_api_key", &fingerprint(&self.mcsp_api_key))
            .field("mcsp_scope", &self.mcsp_scope)
            .field("license_token", &fingerprint(&self.license_token))
            .field(
                "service_account_token",
                &fingerprint(&self.service_account_token),
            )
            .field("token_lifetime", &self.token_lifetime)
            .field("url_based_enabled", &self.url_based_enabled)
            .field("license_base_path", &self.license_base_path)
            .field("frame_interval", &self.frame_interval)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let options = Options::default();
        let shown = format!("{options:?}");
        for secret in [
            &options.password,
            &options.api_key,
            &options.iam_api_key,
            &options.compute_resource_token,
            &options.mcsp_api_key,
            &options.license_token,
            &options.service_account_token,
        ] {
            assert!(!shown.contains(secret.as_str()), "{shown}");
        }
    }
}
