//! Judges the credential of an API call: which schemes a family of endpoints takes, and whether the value is good.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, StatusCode, header};

use crate::{
    TokenState,
    answer::{Answer, html, watsonx_error},
    jwt::Claims,
    state::State,
};

/// A family of endpoints that take the same schemes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// `/ml/*`: Bearer and ZenApiKey.
    MachineLearning,
    /// The Watson Data APIs under `/v2`: Bearer only; ZenApiKey counts as no authorization header.
    WatsonData,
    /// The platform's own user management: Bearer only.
    UserManagement,
    /// watsonx.data: Bearer and Basic.
    Lakehouse,
}

/// How the caller proved who it is.
pub(crate) enum Admitted {
    /// A platform token with these claims.
    Token(Claims),
    /// An API key or password.
    Key,
}

/// Lets a request in, or gives the refusal that the real service would answer.
pub(crate) fn admit(
    state: &State,
    headers: &HeaderMap,
    family: Family,
) -> Result<Admitted, Box<Answer>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(match family {
            Family::WatsonData => missing_authorization(),
            _ => not_valid("Failed to authenticate the request due to missing token"),
        });
    };
    if values.next().is_some() {
        return Err(Box::new(html(
            StatusCode::BAD_REQUEST,
            "<html><head><title>400 Bad Request</title></head><body><center><h1>400 Bad Request</h1></center></body></html>\n",
        )));
    }
    let (scheme, credential) = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .ok_or_else(|| not_valid(INVALID_TOKEN))?;
    let good = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => {
            let claims = check_token(state, credential)?;
            // The platform's user management does not know the users of a cloud.
            if family == Family::UserManagement && matches!(claims, Claims::Cloud(_)) {
                return Err(not_valid(INVALID_TOKEN));
            }
            return Ok(Admitted::Token(claims));
        }
        "zenapikey" if family == Family::MachineLearning => user_and_secret(credential)
            .is_some_and(|(user, secret)| {
                state.knows_api_key(&user, &secret) || state.knows_password(&user, &secret)
            }),
        "zenapikey" if family == Family::WatsonData => return Err(missing_authorization()),
        "basic" if family == Family::Lakehouse => user_and_secret(credential)
            .is_some_and(|(user, secret)| knows_lakehouse_user(state, &user, &secret)),
        _ => false,
    };
    if good {
        Ok(Admitted::Key)
    } else {
        Err(not_valid(INVALID_TOKEN))
    }
}

/// Judges a platform token wherever it was found.
pub(crate) fn check_token(state: &State, token: &str) -> Result<Claims, Box<Answer>> {
    state
        .check(token)
        .map_err(|judged| Box::new(refusal(judged)))
}

/// 401 for a token that is worth so much.
pub(crate) fn refusal(judged: TokenState) -> Answer {
    match judged {
        TokenState::Expired => watsonx_error(
            StatusCode::UNAUTHORIZED,
            "authentication_token_expired",
            "Failed to authenticate the request due to an expired token",
        ),
        TokenState::Valid | TokenState::Revoked | TokenState::Foreign => *not_valid(INVALID_TOKEN),
    }
}

/// `user:secret` in base64 with padding and without a line break; the secret may hold further colons.
pub(crate) fn user_and_secret(encoded: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (user, secret) = decoded.split_once(':')?;
    Some((user.to_owned(), secret.to_owned()))
}

/// The plain user, `ibmlhapikey_<user>` with the API key, or `ibmlhtoken_<user>` with a token.
fn knows_lakehouse_user(state: &State, user: &str, secret: &str) -> bool {
    if let Some(user) = user.strip_prefix("ibmlhapikey_") {
        state.knows_api_key(user, secret)
    } else if let Some(user) = user.strip_prefix("ibmlhtoken_") {
        user == state.options.username && state.check(secret).is_ok()
    } else {
        state.knows_password(user, secret)
    }
}

fn not_valid(message: &str) -> Box<Answer> {
    Box::new(watsonx_error(
        StatusCode::UNAUTHORIZED,
        "authentication_token_not_valid",
        message,
    ))
}

fn missing_authorization() -> Box<Answer> {
    Box::new(watsonx_error(
        StatusCode::BAD_REQUEST,
        "missing_authorization_header",
        "Missing or invalid authorization header",
    ))
}

const INVALID_TOKEN: &str =
    "Failed to authenticate the request due to invalid token: Failed to parse and verify token";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_may_hold_colons_but_no_line_break() {
        let encoded = BASE64_STANDARD.encode("user:a:b");
        assert_eq!(
            user_and_secret(&encoded),
            Some(("user".to_owned(), "a:b".to_owned()))
        );
        assert_eq!(user_and_secret(&format!("{encoded}\n")), None);
        assert_eq!(user_and_secret("dXNlcg=="), None);
    }
}
