//! What a route gets by `preset`: rules that are known for an API, so that the operator need not collect them.

use http::header::AUTHORIZATION;
use token_source::Kind;

use super::{Pattern, Place, check::parse_pattern};

/// A named set of rules for a route; what the route itself says goes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preset {
    /// The API families of watsonx on IBM Software Hub.
    Watsonx,
    /// The reports of IBM License Service, read only.
    LicenseService,
}

impl Preset {
    pub(super) const NAMES: [(&str, Self); 2] = [
        ("watsonx", Self::Watsonx),
        ("license-service", Self::LicenseService),
    ];

    pub(super) fn allow(self) -> Vec<Pattern> {
        parse(match self {
            Self::Watsonx => WATSONX,
            Self::LicenseService => LICENSE_SERVICE,
        })
    }

    pub(super) fn public(self) -> Vec<Pattern> {
        parse(match self {
            Self::Watsonx => WATSONX_PUBLIC,
            Self::LicenseService => LICENSE_SERVICE_PUBLIC,
        })
    }

    pub(super) fn strip_prefix(self) -> bool {
        self == Self::LicenseService
    }

    /// Query parameters that are taken off whatever is attached.
    pub(super) fn drop_query(self) -> Vec<String> {
        match self {
            Self::Watsonx => Vec::new(),
            Self::LicenseService => vec![TOKEN.to_owned()],
        }
    }

    /// Where a credential goes, if not where its kind usually goes.
    pub(super) fn place(self, kind: &Kind) -> Option<Place> {
        match (self, kind) {
            (Self::LicenseService, Kind::Token { .. }) => Some(Place::Query {
                name: TOKEN.to_owned(),
            }),
            (Self::LicenseService, Kind::ServiceAccount { .. }) => Some(Place::Header {
                name: AUTHORIZATION,
                scheme: kind.scheme().to_owned(),
            }),
            _ => None,
        }
    }
}

fn parse(patterns: &[&str]) -> Vec<Pattern> {
    let parse = |text: &&str| parse_pattern(text).expect("the patterns below are right: tested");
    patterns.iter().map(parse).collect()
}

/// The API families that clients of watsonx call. The platform's own token endpoints, some of which lie within
/// (`/lakehouse/api/v2/auth/`), are closed by another rule.
const WATSONX: &[&str] = &[
    "/ml/*",
    "/v2/*",
    "/v3/*",
    "/v4/*",
    "/lakehouse/*",
    "/openscale/*",
    "/orchestrate/*",
    "/instances/*",
    "/v1/orchestrate/*",
    "GET /zen-data/v3/service_instances",
    "GET /zen-data/v3/service_instances/*",
    "GET /usermgmt/v1/user/currentUserInfo",
    "GET /usermgmt/v1/user/tokenExpiry",
];

/// Clients ask for the version before they log in, and call the URL invalid where it cannot be had.
const WATSONX_PUBLIC: &[&str] = &["GET /ml/wml_services/v2/version"];

const LICENSE_SERVICE: &[&str] = &[
    "GET /snapshot",
    "GET /products",
    "GET /bundled_products",
    "GET /services",
    "GET /health",
    "GET /status",
    "GET /version",
];

/// License Service tells its version to anyone.
const LICENSE_SERVICE_PUBLIC: &[&str] = &["GET /version"];

const TOKEN: &str = "token";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_right() {
        for (_, preset) in Preset::NAMES {
            assert!(!preset.allow().is_empty());
            assert!(!preset.public().is_empty());
        }
    }

    #[test]
    fn license_service_is_read_only() {
        for pattern in Preset::LicenseService.allow() {
            assert_eq!(pattern.methods, [http::Method::GET]);
            assert!(!pattern.rest);
        }
    }
}
