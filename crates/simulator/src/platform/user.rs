//! The user's own account: the endpoint that mints a new API key, and two harmless ones.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::json;

use super::admission::{Admitted, Family, admit};
use crate::{
    answer::{self, Answer, json},
    jwt::Claims,
    random_alphanumeric,
    state::{State, USER_ID},
};

/// Answers `/usermgmt/v1/user/<endpoint>`; the endpoint is in lower case.
pub(crate) fn answer(state: &mut State, request: &Request<Bytes>, endpoint: &str) -> Answer {
    let claims = match admit(state, request.headers(), Family::UserManagement) {
        Ok(Admitted::Token(claims)) => claims,
        Ok(Admitted::Key) => return answer::not_found(),
        Err(refusal) => return *refusal,
    };
    let Claims::User(claims) = claims else {
        return answer::not_found();
    };
    if request.method() != Method::GET {
        return answer::method_not_allowed("GET");
    }
    match endpoint {
        "apikey" => mint_api_key(state),
        "currentuserinfo" => json(
            StatusCode::OK,
            &json!({
                "uid": USER_ID,
                "username": claims.username,
                "displayName": claims.username,
                "email": format!("{}@example.com", claims.username),
                "user_roles": ["zen_user_role"],
                "permissions": claims.permissions,
                "approval_status": "approved",
                "current_account_status": "enabled",
                "_messageCode_": "200",
                "message": "success",
            }),
        ),
        "tokenexpiry" => json(StatusCode::OK, &json!({ "exp": claims.exp })),
        _ => answer::not_found(),
    }
}

/// A user has one key: minting a new one voids the old.
fn mint_api_key(state: &mut State) -> Answer {
    let api_key = random_alphanumeric(40);
    state.note_issued(&api_key);
    state.options.api_key.clone_from(&api_key);
    json(
        StatusCode::OK,
        &json!({
            "apiKey": api_key,
            "expire_at": null,
            "message": "success",
            "_messageCode_": "success",
        }),
    )
}
