//! Names of hosts that mean one thing to everybody.

use std::{net::Ipv4Addr, str::FromStr as _};

/// `127.1`, `0x7f.1`, `2130706433`: some resolvers take them for addresses; nothing honest sends them.
pub fn is_odd_number(host: &str) -> bool {
    let mut labels = host.as_bytes().rsplit(|byte| *byte == b'.');
    let last = labels.find(|label| !label.is_empty());
    let numeric =
        last.is_none_or(|last| last.iter().all(u8::is_ascii_digit) || last.starts_with(b"0x"));
    numeric && Ipv4Addr::from_str(host).is_err()
}
