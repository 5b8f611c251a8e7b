//! The controls of a running simulator: what it trusts, how it fails, what it has seen.

use std::{io, path::Path, time::Duration};

use crate::{
    Garbage, Logins, Outage, RecordedRequest, Refusal, Simulator, TokensSeen, TrustedProfile,
    target,
};

/// Certificates.
impl Simulator {
    /// The authority that signed both ports' certificate, as PEM; empty without TLS.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.certificates()
            .map_or("", |certificates| &certificates.ca_pem)
    }

    /// The certificate that both ports present, as PEM; empty without TLS.
    #[must_use]
    pub fn leaf_pem(&self) -> &str {
        self.certificates()
            .map_or("", |certificates| &certificates.leaf_pem)
    }

    /// Writes [`ca_pem`](Self::ca_pem) to a file.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn write_ca(&self, path: impl AsRef<Path>) -> io::Result<()> {
        std::fs::write(path, self.ca_pem())
    }
}

/// Credentials. Each change takes effect with the next request.
impl Simulator {
    /// The user's name.
    #[must_use]
    pub fn username(&self) -> String {
        self.state().options.username.clone()
    }

    /// The password now in force.
    #[must_use]
    pub fn password(&self) -> String {
        self.state().options.password.clone()
    }

    /// The API key now in force; a call of `/usermgmt/v1/user/apiKey` changes it.
    #[must_use]
    pub fn api_key(&self) -> String {
        self.state().options.api_key.clone()
    }

    /// License Service's API token now in force.
    #[must_use]
    pub fn license_token(&self) -> String {
        self.state().options.license_token.clone()
    }

    /// The service-account token that License Service now accepts.
    #[must_use]
    pub fn service_account_token(&self) -> String {
        self.state().options.service_account_token.clone()
    }

    /// Sets the password. Tokens already issued stay good.
    pub fn set_password(&self, password: impl Into<String>) {
        self.state().options.password = password.into();
    }

    /// Sets the API key. Tokens already issued stay good.
    pub fn set_api_key(&self, api_key: impl Into<String>) {
        self.state().options.api_key = api_key.into();
    }

    /// Sets License Service's API token at once, as an edit of the Secret with a restart of the pod does.
    pub fn set_license_token(&self, token: impl Into<String>) {
        self.configure_license_token(token);
        self.restart_license_service();
    }

    /// Edits License Service's API token in its Secret. The service read it when its pod started, so the old token
    /// stays the good one until [`restart_license_service`](Self::restart_license_service).
    pub fn configure_license_token(&self, token: impl Into<String>) {
        self.state().configured_license_token = Some(token.into());
    }

    /// Restarts License Service's pod: the token of its Secret comes into force.
    pub fn restart_license_service(&self) {
        let mut state = self.state();
        if let Some(token) = state.configured_license_token.take() {
            state.options.license_token = token;
        }
    }

    /// Sets the service-account token that License Service accepts.
    pub fn set_service_account_token(&self, token: impl Into<String>) {
        self.state().options.service_account_token = token.into();
    }

    /// Sets whether License Service takes `?token=`.
    pub fn set_url_based_enabled(&self, enabled: bool) {
        self.state().options.url_based_enabled = enabled;
    }
}

/// Credentials of the clouds.
impl Simulator {
    /// The API key that IBM Cloud IAM takes.
    #[must_use]
    pub fn iam_api_key(&self) -> String {
        self.state().options.iam_api_key.clone()
    }

    /// The compute resource token that IAM takes.
    #[must_use]
    pub fn compute_resource_token(&self) -> String {
        self.state().options.compute_resource_token.clone()
    }

    /// The trusted profile that can be assumed.
    #[must_use]
    pub fn trusted_profile(&self) -> TrustedProfile {
        self.state().options.trusted_profile.clone()
    }

    /// The API key that the Multi-Cloud SaaS Platform takes.
    #[must_use]
    pub fn mcsp_api_key(&self) -> String {
        self.state().options.mcsp_api_key.clone()
    }

    /// The scope that it takes, as `collection/id`.
    #[must_use]
    pub fn mcsp_scope(&self) -> String {
        self.state().options.mcsp_scope.clone()
    }

    /// Sets IAM's API key. Tokens already issued stay good.
    pub fn set_iam_api_key(&self, api_key: impl Into<String>) {
        self.state().options.iam_api_key = api_key.into();
    }

    /// Sets the client id and secret that a request to IAM must bring.
    pub fn set_iam_client(&self, client: Option<(String, String)>) {
        self.state().options.iam_client = client;
    }

    /// Sets the compute resource token that IAM takes.
    pub fn set_compute_resource_token(&self, token: impl Into<String>) {
        self.state().options.compute_resource_token = token.into();
    }

    /// Sets the API key of the Multi-Cloud SaaS Platform. Tokens already issued stay good.
    pub fn set_mcsp_api_key(&self, api_key: impl Into<String>) {
        self.state().options.mcsp_api_key = api_key.into();
    }
}

/// Tokens and the clock.
impl Simulator {
    /// Sets the lifetime of the tokens issued from now on, in whole seconds.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.state().options.token_lifetime = lifetime;
    }

    /// Sets how many seconds the platform's clock is ahead of this machine's: shifts `iat` and `exp` of new tokens,
    /// and the instant at which every token expires.
    pub fn set_clock_skew(&self, seconds: i64) {
        self.state().clock_skew = seconds;
    }

    /// Voids every token issued so far; API calls with one are answered 401.
    pub fn revoke_all(&self) {
        self.state().revoke_all();
    }

    /// Voids the token that was issued last, and no other; that token, if there is one.
    pub fn revoke_current(&self) -> Option<String> {
        let mut state = self.state();
        let token = state.latest_token()?;
        state.revoke(&token);
        Some(token)
    }

    /// Voids one token; whether it was issued here and opens the APIs.
    pub fn revoke(&self, token: &str) -> bool {
        self.state().revoke(token)
    }

    /// How many tokens have arrived since the start, by what they were worth at that moment. A proxy that keeps its
    /// promise never sends an expired or a foreign one.
    #[must_use]
    pub fn tokens_seen(&self) -> TokensSeen {
        self.recorder().tokens_seen()
    }

    /// Every secret that the platform has handed out, in order: tokens of all kinds, session cookies, new API keys.
    #[must_use]
    pub fn tokens_issued(&self) -> Vec<String> {
        self.state().issued()
    }
}

/// Failures of the login endpoints; the APIs stay up.
impl Simulator {
    /// Switches an outage on or off.
    pub fn set_outage(&self, outage: Option<Outage>) {
        self.state().outage = outage;
    }

    /// Switches garbage in place of a token on or off.
    pub fn set_garbage(&self, garbage: Option<Garbage>) {
        self.state().garbage = garbage;
    }

    /// Sets the `Retry-After` of [`Outage::Unavailable`] and [`Outage::RateLimited`], in whole seconds.
    pub fn set_retry_after(&self, pause: Option<Duration>) {
        self.state().retry_after = pause;
    }

    /// Sets how long a login takes.
    pub fn set_login_delay(&self, delay: Duration) {
        self.state().login_delay = delay;
    }

    /// How often each login endpoint was called, and with what outcome.
    #[must_use]
    pub fn logins(&self) -> Logins {
        self.state().logins
    }
}

/// Refusals by the platform's APIs; the logins stay up.
impl Simulator {
    /// Sets how a bad token is told.
    pub fn set_refusal(&self, refusal: Refusal) {
        self.state().refusal = refusal;
    }

    /// Sets the paths of the platform that answer 401 to every request, with all that is below them.
    pub fn set_refused_paths(&self, paths: &[&str]) {
        self.state().refused_paths = paths.iter().map(|path| target::segments(path)).collect();
    }
}

/// Streams, connections and the record of requests.
impl Simulator {
    /// Sets the pause before each frame of the streams that start from now on.
    pub fn set_frame_interval(&self, interval: Duration) {
        self.state().options.frame_interval = interval;
    }

    /// Cuts every open connection, whatever is going on in it; new ones are accepted.
    pub fn close_connections(&self) {
        self.close_all();
    }

    /// The latest 1,000 requests to both services, oldest first. A request is there as soon as its head has arrived.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.recorder().requests()
    }

    /// Forgets the requests recorded so far.
    pub fn clear_requests(&self) {
        self.recorder().clear();
    }
}
