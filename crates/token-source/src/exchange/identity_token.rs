//! The form that `iam`, `iam_assume` and `container` post to `/identity/token` of IAM.

use http::{HeaderValue, header::AUTHORIZATION};
use tokio::time::Instant;

use super::{ExchangeError, Record, answer::Issued, request::Form};
use crate::{clock, connect::Connector, http as endpoint};

/// Posts it, in the name of a client where there is one, and takes the token out of the answer. Refresh tokens are
/// left alone: they end before the API key does, and nobody need keep them secret.
pub(super) async fn post(
    server: &Connector,
    form: Form,
    client: Option<HeaderValue>,
    record: &Record,
) -> Result<(Issued, Instant), ExchangeError> {
    let mut request = form.post(IDENTITY_TOKEN);
    if let Some(client) = client {
        request.headers_mut().insert(AUTHORIZATION, client);
    }
    let sent = clock::now();
    let answer = endpoint::send(server, request, record).await?;
    Ok((Issued::from_answer(IDENTITY_TOKEN, &answer, record)?, sent))
}

const IDENTITY_TOKEN: &str = "/identity/token";
