//! The files that a trust names: read when needed, and again when they change.

use std::{fs, time::Duration};

use rcgen::ExtendedKeyUsagePurpose;
use token_source::{
    Location, Trust,
    tls::{Identity, Roots},
};
use tokio::time;

use crate::made::{Files, Made, check, connector, greet, params, serve};

#[tokio::test]
async fn we_show_our_own_certificate() {
    let files = Files::new();
    let (ca, server) = (Made::ca(), Made::self_signed(params(&["localhost"])));
    let mut client = params(&["client"]);
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let client = Made::signed_by(client, &ca);
    let address = serve(&server, Some(&ca)).await;
    let trust = Trust {
        roots: files.bundle(&[&server]),
        ..Trust::default()
    };
    let outcome = greet(&connector("localhost", address, trust.clone())).await;
    assert!(
        outcome.is_err(),
        "the server wants a certificate: {outcome:?}"
    );
    let certificate = files.write("tls.crt", &client.certificate.pem());
    let identity = |key: &str| {
        Some(Identity {
            certificate: certificate.clone(),
            key: files.write("tls.key", key),
        })
    };
    let shown = Trust {
        identity: identity(&client.key.serialize_pem()),
        ..trust.clone()
    };
    check(greet(&connector("localhost", address, shown)).await, None);
    for key in [server.key.serialize_pem().as_str(), "no key"] {
        let broken = Trust {
            identity: identity(key),
            ..trust.clone()
        };
        check(
            greet(&connector("localhost", address, broken)).await,
            Some("belong together"),
        );
    }
}

#[tokio::test]
async fn a_ca_file_that_appears_or_is_replaced_heals_the_next_connection() {
    let files = Files::new();
    let path = files.0.path().join("ca.pem");
    let leaf = Made::self_signed(params(&["localhost"]));
    let address = serve(&leaf, None).await;
    let roots = Roots::Bundle(Location::File {
        path: path.clone(),
        field: None,
    });
    let connector = connector(
        "localhost",
        address,
        Trust {
            roots,
            ..Trust::default()
        },
    );
    check(
        greet(&connector).await,
        Some("CA bundle cannot be used: does not exist"),
    );
    fs::write(&path, "no certificate").unwrap();
    check(greet(&connector).await, Some("holds no certificate"));
    fs::write(&path, Made::ca().certificate.pem()).unwrap();
    check(greet(&connector).await, Some("UnknownIssuer"));
    fs::write(&path, leaf.certificate.pem()).unwrap();
    check(greet(&connector).await, None);
    // Loaded once, the file is not needed any more.
    fs::remove_file(&path).unwrap();
    check(greet(&connector).await, None);
}

#[tokio::test]
async fn a_client_certificate_that_is_replaced_on_disk_is_shown() {
    let files = Files::new();
    let (old_ca, new_ca) = (Made::ca(), Made::ca());
    let server = Made::self_signed(params(&["localhost"]));
    // In TLS 1.3 the server refuses us after the handshake has succeeded on our side.
    let address = serve(&server, Some(&new_ca)).await;
    let trust = Trust {
        roots: files.bundle(&[&server]),
        identity: Some(write_identity(&files, &client(&old_ca))),
        ..Trust::default()
    };
    let connector = connector("localhost", address, trust);
    assert!(greet(&connector).await.is_err());
    write_identity(&files, &client(&new_ca));
    pass(Duration::from_secs(5)).await;
    eventually(async || greet(&connector).await.is_ok()).await;
}

#[tokio::test]
async fn a_replacement_that_cannot_be_used_leaves_the_old_certificate() {
    let files = Files::new();
    let (ca, server) = (Made::ca(), Made::self_signed(params(&["localhost"])));
    let address = serve(&server, Some(&ca)).await;
    let identity = write_identity(&files, &client(&ca));
    let trust = Trust {
        roots: files.bundle(&[&server]),
        identity: Some(identity.clone()),
        ..Trust::default()
    };
    let connector = connector("localhost", address, trust);
    check(greet(&connector).await, None);
    fs::write(&identity.key, "half a k").unwrap();
    pass(Duration::from_secs(5)).await;
    check(greet(&connector).await, None);
    fs::remove_file(&identity.key).unwrap();
    pass(Duration::from_secs(5)).await;
    check(greet(&connector).await, None);
    // One that can be used is used, welcome or not.
    write_identity(&files, &client(&Made::ca()));
    pass(Duration::from_secs(5)).await;
    eventually(async || greet(&connector).await.is_err()).await;
}

fn client(ca: &Made) -> Made {
    let mut params = params(&["client"]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Made::signed_by(params, ca)
}

fn write_identity(files: &Files, made: &Made) -> Identity {
    Identity {
        certificate: files.write("tls.crt", &made.certificate.pem()),
        key: files.write("tls.key", &made.key.serialize_pem()),
    }
}

/// A machine that takes more than a second for the files has them looked at once more.
async fn eventually(is_so: impl AsyncFn() -> bool) {
    for _ in 0..10 {
        if is_so().await {
            return;
        }
        pass(Duration::from_secs(5)).await;
    }
    panic!("not after ten looks at the files");
}

/// Sets the clock forward; otherwise it runs, because sockets do not wait for a clock that stands.
async fn pass(time: Duration) {
    time::pause();
    time::advance(time).await;
    time::resume();
}
