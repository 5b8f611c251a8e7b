//! What a look at a server shows, trusted or not.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use token_source::{
    Origin, Trust,
    connect::{Inspection, inspect},
    tls::Distrust,
};

use super::made::{CA, Files, LIMIT, Made, expired, params, serve, with_ca};

async fn look(made: &Made, trust: Trust) -> Inspection {
    let address = serve(made, None).await;
    inspect(&origin(address, trust), LIMIT).await
}

fn origin(address: SocketAddr, trust: Trust) -> Origin {
    let url = format!("https://localhost:{}", address.port());
    Origin::parse(&url, Arc::new(trust)).unwrap()
}

#[tokio::test]
async fn each_reason_for_distrust_is_told_apart() {
    let files = Files::new();
    let ca = Made::ca();
    let trust = || Trust {
        roots: files.bundle(&[&ca]),
        ..Trust::default()
    };
    let good = Made::signed_by(params(&["localhost"]), &ca);
    let wrong_pin = Trust {
        pins: vec![[7; 32]],
        ..Trust::default()
    };
    let own_authority = Made::self_signed(with_ca(params(&["localhost"]), CA));
    let more_files = Files::new();
    let itself = Trust {
        roots: more_files.bundle(&[&own_authority, &ca]),
        ..Trust::default()
    };
    for (made, trust, distrust) in [
        (&good, trust(), None),
        (&good, Trust::default(), Some(Distrust::UnknownIssuer)),
        (&good, wrong_pin, Some(Distrust::WrongPin)),
        (
            &Made::signed_by(params(&["elsewhere"]), &ca),
            trust(),
            Some(Distrust::WrongName),
        ),
        (
            &Made::signed_by(expired(&["localhost"]), &ca),
            trust(),
            Some(Distrust::Expired),
        ),
        (&own_authority, trust(), Some(Distrust::Authority)),
        (&own_authority, itself, None),
    ] {
        let found = look(made, trust).await;
        assert!(found.addresses.is_ok() && found.tried.last().unwrap().1.is_ok());
        let tls = found.tls.unwrap();
        let presented = tls.presented.unwrap();
        assert_eq!(presented.distrust, distrust);
        assert_eq!(tls.outcome.is_ok(), distrust.is_none());
        assert_eq!(tls.outcome.unwrap_or("TLS 1.3"), "TLS 1.3");
        let leaf = &presented.chain[0];
        let is_self_signed = std::ptr::eq(made, &own_authority);
        assert_eq!(
            (leaf.is_self_signed, leaf.is_authority),
            (is_self_signed, is_self_signed)
        );
        assert!(!leaf.names.is_empty() && leaf.not_before < leaf.not_after);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_or_speaks_no_tls() {
    // Bound, so that nobody else is, and not listening.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let found = inspect(&origin(address, Trust::default()), LIMIT).await;
    assert!(found.tls.is_none() && found.tried.iter().all(|(_, outcome)| outcome.is_err()));

    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let (tcp, _) = socket.accept().await.unwrap();
        drop(tcp);
    });
    let found = inspect(&origin(address, Trust::default()), LIMIT).await;
    let tls = found.tls.unwrap();
    assert!(tls.presented.is_none() && tls.outcome.is_err());

    let nowhere = Origin::parse("https://no-such-host.invalid", Arc::default()).unwrap();
    let found = inspect(&nowhere, Duration::from_secs(10)).await;
    assert!(found.addresses.is_err() && found.tried.is_empty());
}
