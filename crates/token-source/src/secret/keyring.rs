//! Reading from the keyring of the user's session: Secret Service (GNOME, KDE), Keychain or Credential Manager.
//!
//! On Linux by D-Bus in Rust alone. Not the kernel's keyutils: what a person puts into a keyring is in the other one,
//! and is still there after a restart.

use std::sync::{Arc, LazyLock};

use keyring_core::{CredentialStore, Entry, Error};
use secrecy::zeroize::Zeroizing;
use tokio::{sync::Mutex, task};

use super::SecretError;

/// The secret of a user of a service.
pub(super) async fn read(service: String, user: String) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    // One thread at a time waits for somebody to unlock the keyring.
    static TURN: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);
    let turn = TURN.clone().lock_owned().await;
    let work = task::spawn_blocking(move || {
        // Held by the thread, because it may outlast whoever waits for it.
        let _turn = turn;
        read_now(&service, &user)
    });
    match work.await {
        Ok(Ok(secret)) => Ok(Zeroizing::new(secret)),
        Ok(Err(Error::NoEntry)) => Err(SecretError::Missing),
        // The others are not shown to anybody: some hold the secret.
        Ok(Err(_)) | Err(_) => Err(SecretError::KeyringFailed),
    }
}

fn read_now(service: &str, user: &str) -> Result<Vec<u8>, Error> {
    if keyring_core::get_default_store().is_none() {
        keyring_core::set_default_store(open_store()?);
    }
    // Bytes, because an error about the encoding of a text has the text in it.
    Entry::new(service, user)?.get_secret()
}

#[cfg(target_os = "macos")]
fn open_store() -> Result<Arc<CredentialStore>, Error> {
    Ok(apple_native_keyring_store::keychain::Store::new()?)
}

#[cfg(windows)]
fn open_store() -> Result<Arc<CredentialStore>, Error> {
    Ok(windows_native_keyring_store::Store::new()?)
}

#[cfg(all(unix, not(target_os = "macos")))]
fn open_store() -> Result<Arc<CredentialStore>, Error> {
    Ok(zbus_secret_service_keyring_store::Store::new()?)
}

#[cfg(test)]
mod tests {
    use keyring_core::mock;
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::Location;

    #[tokio::test]
    async fn the_keyring_is_read_and_its_errors_tell_nothing() {
        keyring_core::set_default_store(mock::Store::new().unwrap());
        let place = Location::Keyring {
            service: "watsonx".into(),
            user: "svc".into(),
        };
        let read = async || place.read().await;
        assert_eq!(read().await.unwrap_err(), SecretError::Missing);
        let entry = Entry::new("watsonx", "svc").unwrap();
        entry.set_password("key\n").unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test's own secret")]
        let value = read().await.unwrap().expose_secret().to_owned();
        assert_eq!(value, "key");
        entry.set_secret(b"\xff").unwrap();
        assert_eq!(read().await.unwrap_err(), SecretError::NotText);
        entry.set_password(" ").unwrap();
        assert_eq!(read().await.unwrap_err(), SecretError::Empty);
        let credential: &mock::Cred = entry.as_any().downcast_ref().unwrap();
        let locked = || "locked".to_owned().into();
        for error in [
            Error::NoStorageAccess(locked()),
            Error::PlatformFailure(locked()),
            Error::BadDataFormat(b"c4nary".into(), locked()),
            Error::Ambiguous(Vec::new()),
        ] {
            credential.set_error(error);
            assert_eq!(read().await.unwrap_err(), SecretError::KeyringFailed);
        }
        assert!(!place.is_watched());
        assert_eq!(place.describe().await, "keyring");
    }
}
