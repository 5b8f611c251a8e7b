//! Which servers are trusted, over real handshakes with certificates made here.

#![expect(clippy::unwrap_used, reason = "what goes wrong here is a failed test")]

mod files;
mod inspected;
mod made;

use std::time::Duration;

use rcgen::IsCa;
use token_source::{ConnectError, Trust};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use made::{
    CA, Files, LIMIT, Made, check, connector, dated, expect, expired, greet, params, serve, with_ca,
};

#[tokio::test]
async fn a_bundle_vouches_for_what_its_roots_signed() {
    let files = Files::new();
    let ca = Made::ca();
    let trust = Trust {
        roots: files.bundle(&[&ca]),
        ..Trust::default()
    };
    expect(
        &Made::signed_by(params(&["localhost"]), &ca),
        trust.clone(),
        None,
    )
    .await;
    expect(
        &Made::signed_by(params(&["elsewhere"]), &ca),
        trust.clone(),
        Some("not valid for name"),
    )
    .await;
    expect(
        &Made::signed_by(expired(&["localhost"]), &ca),
        trust.clone(),
        Some("expired"),
    )
    .await;
    expect(
        &Made::signed_by(params(&["localhost"]), &Made::ca()),
        trust.clone(),
        Some("invalid peer certificate"),
    )
    .await;
    expect(
        &Made::self_signed(params(&["localhost"])),
        trust,
        Some("UnknownIssuer"),
    )
    .await;
}

#[tokio::test]
async fn the_systems_roots_do_not_vouch_for_strangers() {
    let ca = Made::ca();
    expect(
        &Made::signed_by(params(&["localhost"]), &ca),
        Trust::default(),
        Some("UnknownIssuer"),
    )
    .await;
}

#[tokio::test]
async fn a_listed_leaf_is_trusted_as_it_is() {
    for is_ca in [IsCa::NoCa, CA] {
        let files = Files::new();
        let made = |params| Made::self_signed(with_ca(params, is_ca));
        let leaf = made(params(&["localhost"]));
        expect(
            &leaf,
            Trust {
                roots: files.bundle(&[&leaf]),
                ..Trust::default()
            },
            None,
        )
        .await;
        let other = made(params(&["elsewhere"]));
        let trust = Trust {
            roots: files.bundle(&[&other]),
            ..Trust::default()
        };
        expect(&other, trust.clone(), Some("not valid for name")).await;
        expect(&leaf, trust, Some("invalid peer certificate")).await;
        let old = made(expired(&["localhost"]));
        expect(
            &old,
            Trust {
                roots: files.bundle(&[&old]),
                ..Trust::default()
            },
            Some("expired"),
        )
        .await;
    }
}

#[tokio::test]
async fn a_listed_leaf_does_not_vouch_for_others() {
    let files = Files::new();
    let leaf = Made::self_signed(params(&["elsewhere"]));
    let forged = Made::signed_by(params(&["localhost"]), &leaf);
    expect(
        &forged,
        Trust {
            roots: files.bundle(&[&leaf]),
            ..Trust::default()
        },
        Some("UnknownIssuer"),
    )
    .await;
}

#[tokio::test]
async fn a_pin_replaces_the_chain_but_not_name_and_dates() {
    let pinned = |made: &Made| Trust {
        pins: vec![[0; 32], made.pin()],
        ..Trust::default()
    };
    for is_ca in [IsCa::NoCa, CA] {
        let leaf = Made::self_signed(with_ca(params(&["localhost"]), is_ca));
        expect(&leaf, pinned(&leaf), None).await;
        expect(&leaf, pinned(&Made::ca()), Some("invalid peer certificate")).await;
    }
    let elsewhere = Made::self_signed(params(&["elsewhere"]));
    expect(&elsewhere, pinned(&elsewhere), Some("not valid for name")).await;
    let old = Made::self_signed(expired(&["localhost"]));
    expect(&old, pinned(&old), Some("expired")).await;
    let future = dated(params(&["localhost"]), 2900, 2901);
    let early = Made::self_signed(future);
    expect(&early, pinned(&early), Some("not valid yet")).await;
}

#[tokio::test]
async fn pin_and_roots_must_both_hold() {
    let files = Files::new();
    let (ca, stranger) = (Made::ca(), Made::ca());
    let leaf = Made::signed_by(params(&["localhost"]), &ca);
    let trust = |roots, pins| Trust {
        roots,
        pins,
        ..Trust::default()
    };
    expect(&leaf, trust(files.bundle(&[&ca]), vec![leaf.pin()]), None).await;
    expect(
        &leaf,
        trust(files.bundle(&[&ca]), vec![stranger.pin()]),
        Some("invalid peer certificate"),
    )
    .await;
    expect(
        &leaf,
        trust(files.bundle(&[&stranger]), vec![leaf.pin()]),
        Some("invalid peer certificate"),
    )
    .await;
}

#[tokio::test]
async fn insecure_takes_anything() {
    let old = Made::self_signed(with_ca(expired(&["elsewhere"]), CA));
    expect(
        &old,
        Trust {
            insecure: true,
            ..Trust::default()
        },
        None,
    )
    .await;
}

#[tokio::test]
async fn another_name_can_be_checked_and_addresses_are_names() {
    let files = Files::new();
    let leaf = Made::self_signed(params(&["cpd.example.com", "127.0.0.1"]));
    let address = serve(&leaf, None).await;
    let trust = Trust {
        roots: files.bundle(&[&leaf]),
        ..Trust::default()
    };
    check(
        greet(&connector("localhost", address, trust.clone())).await,
        Some("not valid for name"),
    );
    check(
        greet(&connector("127.0.0.1", address, trust.clone())).await,
        None,
    );
    let named = Trust {
        server_name: Some("cpd.example.com".into()),
        ..trust.clone()
    };
    check(greet(&connector("localhost", address, named)).await, None);
    let nonsense = Trust {
        server_name: Some("no name".into()),
        ..trust
    };
    check(
        greet(&connector("localhost", address, nonsense)).await,
        Some("name cannot be checked"),
    );
}

#[tokio::test]
async fn no_server_and_no_tls_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let insecure = Trust {
        insecure: true,
        ..Trust::default()
    };
    let connector = connector("127.0.0.1", address, insecure);
    // Accepted by the kernel, but nobody shakes hands.
    let outcome = connector.connect(Duration::from_millis(50)).await;
    assert!(matches!(outcome, Err(ConnectError::Timeout)), "{outcome:?}");
    let plain = tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            if tcp
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .is_ok()
            {
                // Read to the end, so that closing does not reset what was written.
                let _ = tcp.shutdown().await;
                let _ = tcp.read_to_end(&mut Vec::new()).await;
            }
        }
    });
    let outcome = connector.connect(LIMIT).await;
    assert!(matches!(outcome, Err(ConnectError::Tls(_))), "{outcome:?}");
    plain.abort();
    let _ = plain.await;
    let outcome = connector.connect(LIMIT).await;
    assert!(
        matches!(outcome, Err(ConnectError::Unreachable(_))),
        "{outcome:?}"
    );
}
