//! The `tls` of upstreams and credentials: how a server is trusted, and who we are to it.

use std::net::IpAddr;

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::pki_types::ServerName;
use token_source::{
    Trust,
    tls::{Identity, Roots},
};

use super::location;
use crate::config::{reading::Wrong, wire::Table};

/// `tls = { ca, pin, insecure, server_name, certificate, key }`; `place` names the waiver.
pub(super) fn trust(mut table: Table<'_>, place: &str) -> Option<Trust> {
    let reading = table.reading;
    let ca = table
        .key("ca")
        .is_some()
        .then(|| location::file_or_location(&mut table, "ca"));
    let pins = pins(&mut table);
    let insecure = table.boolean("insecure").unwrap_or(false);
    let server_name = server_name(&mut table);
    let identity = identity(&mut table);
    if insecure {
        reading.waive("insecure", place.to_owned());
        for key in ["ca", "pin", "server_name"] {
            if let Some(span) = table.key(key) {
                reading.mistake(
                    span,
                    format!("{key} says what to check, insecure says to check nothing"),
                    format!("leave out `insecure`, or leave out `{key}`"),
                );
            }
        }
    }
    table.done();
    Some(Trust {
        roots: match ca {
            Some(location) => Roots::Bundle(location?),
            None => Roots::System,
        },
        pins: pins?,
        insecure,
        server_name: server_name?,
        identity: identity?,
    })
}

fn pins(table: &mut Table<'_>) -> Option<Vec<[u8; 32]>> {
    if table.key("pin").is_none() {
        return Some(Vec::new());
    }
    let texts = table.texts("pin")?;
    let pins: Vec<_> = texts
        .iter()
        .filter_map(|text| {
            let pin = parse_pin(text.get_ref());
            if pin.is_none() {
                table.reading.mistake(
                    text.span(),
                    "not a pin",
                    "\"sha256:\" and the SHA-256 of the public key, in base64 or as 64 hexadecimal digits",
                );
            }
            pin
        })
        .collect();
    (pins.len() == texts.len()).then_some(pins)
}

fn parse_pin(text: &str) -> Option<[u8; 32]> {
    let digest = text
        .strip_prefix("sha256:")
        .or_else(|| text.strip_prefix("sha256/"))?;
    if digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()) {
        let mut pin = [0; 32];
        for (byte, digits) in pin.iter_mut().zip(digest.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        }
        return Some(pin);
    }
    STANDARD.decode(digest).ok()?.try_into().ok()
}

/// The outer `None` is a mistake, the inner one a key that is not there.
fn server_name(table: &mut Table<'_>) -> Option<Option<String>> {
    let Some(name) = table.text("server_name") else {
        return table.key("server_name").is_none().then_some(None);
    };
    if ServerName::try_from(name.get_ref().as_str()).is_ok() {
        return Some(Some(name.into_inner()));
    }
    let wrong = Wrong::new(
        "not a host name",
        "a name or an IP address, without scheme and port",
    );
    table.reading.wrong(name.span(), wrong);
    None
}

/// A name or an IP address, without brackets, port or scheme.
pub(super) fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && text.split('.').all(is_label))
}

/// As [`server_name`].
fn identity(table: &mut Table<'_>) -> Option<Option<Identity>> {
    let keys = [table.key("certificate"), table.key("key")];
    let certificate = location::file(table, "certificate");
    let key = location::file(table, "key");
    match keys {
        [None, None] => Some(None),
        [Some(_), Some(_)] => Some(Some(Identity {
            certificate: certificate?,
            key: key?,
        })),
        [Some(span), None] | [None, Some(span)] => {
            table.reading.mistake(
                span,
                "our own certificate needs both certificate and key",
                "certificate = \"client.crt\", key = \"client.key\"",
            );
            None
        }
    }
}

/// The trust of a `tls` table that may be absent; `None` is a mistake.
pub(super) fn trust_or_default(
    table: &mut Table<'_>,
    key: &'static str,
    place: &str,
) -> Option<Trust> {
    match table.table(key) {
        Some(tls) => trust(tls, place),
        None => table.key(key).is_none().then(Trust::default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_in_both_spellings() {
        let hex = format!("sha256:{}", "ab".repeat(32));
        let base64 = format!("sha256:{}", STANDARD.encode([0xab; 32]));
        assert_eq!(parse_pin(&hex), Some([0xab; 32]));
        assert_eq!(parse_pin(&base64), Some([0xab; 32]));
        for wrong in [
            "",
            "sha256:",
            "sha1:abcd",
            "sha256:abcd",
            &hex[..70],
            &format!("{base64}AA"),
        ] {
            assert_eq!(parse_pin(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn hosts_have_no_scheme_port_or_empty_label() {
        for host in ["proxy.internal", "10.0.0.1", "::1", "localhost"] {
            assert!(is_host(host), "{host}");
        }
        for other in ["", "a..b", "a:80", "https://a", "a/b", "*.a", "a b"] {
            assert!(!is_host(other), "{other}");
        }
    }
}
