//! What is left of a secret where it only has to be told apart from others: a hash under a key that is made at start and
//! kept nowhere, so that it says nothing to any other process, and cannot be looked up.

use std::{fmt, sync::LazyLock};

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use secrecy::zeroize::Zeroizing;
use subtle::{Choice, ConstantTimeEq};

/// The fingerprint of a secret, whatever its length.
#[derive(Clone, Copy)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of a secret.
    pub fn of(secret: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hmac::sign(&KEY, secret).as_ref());
        Self(bytes)
    }

    /// Its first half-dozen digits, for eyes: enough to see that a value is another one.
    pub fn short(&self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }
}

/// In the same time whether they differ at the beginning, at the end or not at all.
impl ConstantTimeEq for Fingerprint {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({:08x})", self.short())
    }
}

/// From the operating system: the generator of aws-lc gathers entropy for tenths of a second first, and nothing else may
/// need it.
static KEY: LazyLock<Key> = LazyLock::new(|| {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *key).expect("the operating system has randomness");
    Key::new(HMAC_SHA256, &*key)
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_secrets_and_no_others_have_equal_fingerprints() {
        let equal = |one: &[u8], other: &[u8]| {
            bool::from(Fingerprint::of(one).ct_eq(&Fingerprint::of(other)))
        };
        assert!(equal(b"a key", b"a key"));
        for other in [&b""[..], b"a ke", b"a key ", b"b key", &[b'a'; 100_000]] {
            assert!(!equal(b"a key", other));
        }
        let shown = format!("{:?}", Fingerprint::of(b"a key"));
        assert!(shown.len() <= "Fingerprint(00000000)".len(), "{shown}");
    }
}
