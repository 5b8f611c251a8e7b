//! Signs and checks tokens: RS256 JWTs with the claims that IBM's platform and IBM's clouds put into them.

use std::sync::LazyLock;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde::{Deserialize, Serialize};

/// What a token says, by who issued it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Claims {
    /// Software Hub.
    User(Box<UserClaims>),
    /// IBM Cloud or the Multi-Cloud SaaS Platform.
    Cloud(CloudClaims),
}

/// What a token of Software Hub says about its holder. `iat` and `exp` are seconds since the epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UserClaims {
    pub(crate) username: String,
    pub(crate) role: String,
    pub(crate) permissions: Vec<String>,
    pub(crate) sub: String,
    pub(crate) iss: String,
    pub(crate) aud: String,
    pub(crate) uid: String,
    pub(crate) authenticator: String,
    /// Present in tokens of `signin`, which opens a web session.
    #[serde(rename = "session-id", skip_serializing_if = "Option::is_none")]
    pub(crate) session_id: Option<String>,
    /// Present in all other tokens; keeps two tokens of the same second apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_id: Option<String>,
    pub(crate) iat: i64,
    pub(crate) exp: i64,
}

/// What matters here of a token that a cloud issued.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct CloudClaims {
    pub(crate) iss: String,
    pub(crate) grant_type: Option<String>,
}

/// Signs `claims` with the key of this process.
pub(crate) fn sign(claims: &impl Serialize) -> String {
    encode(&Header::new(Algorithm::RS256), claims, &KEYS.signing)
        .expect("claims are plain JSON and the key is an RSA key")
}

/// The claims of a token with a good signature. Whether it was issued by the simulator that is asked, and whether
/// it has expired, is that simulator's to judge.
pub(crate) fn verify(token: &str) -> Option<Claims> {
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_exp = false;
    validation.validate_aud = false;
    decode(token, &KEYS.verifying, &validation)
        .ok()
        .map(|decoded| decoded.claims)
}

/// The issuer of platform tokens.
pub(crate) const ISSUER: &str = "KNOXSSO";
/// The audience of platform tokens.
pub(crate) const AUDIENCE: &str = "DSX";

struct Keys {
    signing: EncodingKey,
    verifying: DecodingKey,
}

/// Made once per process: making an RSA key takes longer than everything else at start.
static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("aws-lc makes RSA keys");
    Keys {
        signing: EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes())
            .expect("the key was just written as PEM"),
        verifying: DecodingKey::from_rsa_pem(pair.public_key_pem().as_bytes())
            .expect("the key was just written as PEM"),
    }
});

/// Makes the key now rather than in the first login.
pub(crate) fn prepare() {
    LazyLock::force(&KEYS);
}
