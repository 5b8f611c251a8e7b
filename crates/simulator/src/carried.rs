//! Finds the tokens that a request carries, and judges each at the moment at which it arrives.

use http::{HeaderName, header, request::Parts};

use crate::{Service, TokenState, state::State, tokens::Step};

/// Every Bearer token of the request in order, then every `?token=` of one to License Service.
pub(crate) fn tokens(state: &State, service: Service, head: &Parts) -> Vec<TokenState> {
    let bearers = [header::AUTHORIZATION, IAM_TOKEN]
        .into_iter()
        .flat_map(|name| head.headers.get_all(name))
        .filter_map(|value| {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token)
        });
    if service != Service::License {
        return bearers.map(|token| on_platform(state, token)).collect();
    }
    let account = &state.options.service_account_token;
    let in_url = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
        .filter(|(name, _)| name == "token")
        .map(|(_, token)| known(token == state.options.license_token.as_str()));
    bearers
        .map(|token| known(token == account))
        .chain(in_url)
        .collect()
}

/// The tokens of the metadata service's first step are Bearer tokens too.
fn on_platform(state: &State, token: &str) -> TokenState {
    match state.judge(token) {
        TokenState::Foreign => state.judge_step(Step::Instance, token),
        judged => judged,
    }
}

fn known(known: bool) -> TokenState {
    if known {
        TokenState::Valid
    } else {
        TokenState::Foreign
    }
}

/// Where watsonx.data wants the token a second time.
const IAM_TOKEN: HeaderName = HeaderName::from_static("iamtoken");
