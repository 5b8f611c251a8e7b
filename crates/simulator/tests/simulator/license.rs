//! License Service: its two credentials, its reports and the signed snapshot.

use std::io::{Cursor, Read as _};

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{Request, StatusCode, header};
use simulator::{Options, Simulator};
use zip::ZipArchive;

use crate::client::*;

async fn fetch(simulator: &Simulator, target: &str) -> Reply {
    send(
        simulator,
        without_body(get(simulator.license_url() + target)),
    )
    .await
}

#[tokio::test]
async fn the_token_must_be_there_once_and_right() {
    let simulator = Simulator::start(Options {
        license_token: "to+ken#=/x".to_owned(),
        ..Options::default()
    })
    .unwrap();
    let right = "token=to%2Bken%23%3D%2Fx";
    for (query, status) in [
        (right, 200),
        ("%74oken=to%2Bken%23%3D/x", 200),
        ("token=to+ken%23%3D/x", 401),
        ("token=wrong", 401),
        ("token=", 401),
        ("Token=to%2Bken%23%3D/x", 401),
        (&format!("{right}&{right}"), 401),
        (&format!("token=wrong&{right}"), 401),
        ("", 401),
    ] {
        let reply = fetch(&simulator, &format!("/products?{query}")).await;
        assert_eq!(reply.status, status, "{query}");
        if status == 401 {
            assert!(reply.text().contains("Message: <b>Unauthorized</b>"));
            assert_eq!(
                reply.headers[header::CONTENT_TYPE],
                "text/html; charset=utf-8"
            );
        }
    }
}

#[tokio::test]
async fn a_service_account_is_the_only_way_in_once_the_token_is_turned_off() {
    let simulator = Simulator::start(Options {
        url_based_enabled: false,
        ..Options::default()
    })
    .unwrap();
    let by_token = format!(
        "{}/health?token={}",
        simulator.license_url(),
        simulator.license_token()
    );
    let reply = send(&simulator, without_body(get(&by_token))).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    let health = simulator.license_url() + "/health";
    let account = bearer(&simulator.service_account_token());
    let reply = get_as(&simulator, &account, health.clone()).await;
    assert_eq!(reply.json()["incompleteAnnotations"]["count"], 0);
    let reply = get_as(&simulator, &bearer("wrong"), health).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);

    // A wrong credential is not made good by a right one beside it.
    simulator.set_url_based_enabled(true);
    assert_eq!(
        get_as(&simulator, &account, by_token.clone()).await.status,
        StatusCode::OK
    );
    let reply = get_as(&simulator, &bearer("wrong"), by_token).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn version_is_open_and_only_get_is_answered() {
    let simulator = start();
    assert!(fetch(&simulator, "/version").await.json()["version"].is_string());
    assert_eq!(fetch(&simulator, "/").await.status, StatusCode::OK);
    assert_eq!(
        fetch(&simulator, "/unknown").await.status,
        StatusCode::NOT_FOUND
    );
    for path in [
        "/snapshot",
        "/products",
        "/bundled_products",
        "/services",
        "/health",
        "/status",
    ] {
        assert_eq!(
            fetch(&simulator, path).await.status,
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
    }
    let products = format!(
        "{}/products?token={}",
        simulator.license_url(),
        simulator.license_token()
    );
    let reply = send(&simulator, without_body(Request::delete(products))).await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn reports_come_as_json_and_csv() {
    let simulator = start();
    let query = format!(
        "token={}&startDate=2026-01-01&endDate=2026-01-31",
        simulator.license_token()
    );
    for (path, column) in [
        ("/products", "metricQuantity"),
        ("/bundled_products", "metricConversion"),
        ("/services", "serviceMetricValue"),
    ] {
        let json = fetch(&simulator, &format!("{path}?{query}")).await.json();
        assert!(json[0].get(column).is_some(), "{json}");
        let csv = fetch(&simulator, &format!("{path}?{query}&format=csv")).await;
        assert_eq!(csv.headers[header::CONTENT_TYPE], "text/csv");
        assert!(csv.text().lines().next().unwrap().contains(column));
    }
    let status = fetch(&simulator, &format!("/status?{query}")).await;
    assert!(status.text().contains("from 2026-01-01 to 2026-01-31"));
    let reply = fetch(
        &simulator,
        &format!("/products?{query}&startDate=2026-01-01"),
    )
    .await;
    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test]
async fn the_snapshot_is_signed_evidence() {
    let simulator = start();
    let query = format!(
        "token={}&startDate=2026-01-01&endDate=2026-01-31",
        simulator.license_token()
    );
    let reply = fetch(&simulator, &format!("/snapshot?{query}")).await;
    assert_eq!(reply.headers[header::CONTENT_TYPE], "application/zip");
    assert_eq!(
        reply.headers[header::CONTENT_DISPOSITION],
        "attachment; filename=\"license_snapshot_2026-01-01_2026-01-31.zip\""
    );
    let mut archive = ZipArchive::new(Cursor::new(reply.body)).unwrap();
    let mut read = |name: &str| {
        let mut content = Vec::new();
        archive
            .by_name(name)
            .unwrap()
            .read_to_end(&mut content)
            .unwrap();
        content
    };
    let checksums = read("checksum.txt");
    let lines: Vec<(&str, &str)> = std::str::from_utf8(&checksums)
        .unwrap()
        .lines()
        .map(|line| line.split_once("  ").unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0].1, "products_2026-01-01_2026-01-31.csv");
    for (sum, name) in lines {
        let content = read(name);
        let hex: String = digest(&SHA256, &content)
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(sum, hex, "{name}");
    }
    let pem = String::from_utf8(read("pub_key.pem")).unwrap();
    let key: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = BASE64_STANDARD.decode(key.trim()).unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
        .verify(&checksums, &read("signature.rsa"))
        .unwrap();
}

#[tokio::test]
async fn behind_an_ingress_only_the_base_path_leads_to_the_service() {
    let simulator = Simulator::start(Options {
        license_base_path: Some("/ibm-licensing-service-instance".to_owned()),
        ..Options::default()
    })
    .unwrap();
    assert!(
        simulator
            .license_url()
            .ends_with("/ibm-licensing-service-instance")
    );
    assert_eq!(fetch(&simulator, "/version").await.status, StatusCode::OK);
    assert_eq!(
        fetch(&simulator, "x/version").await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        fetch(&simulator, "/simulator/echo").await.status,
        StatusCode::OK
    );
    let root = simulator
        .license_url()
        .replace("/ibm-licensing-service-instance", "/version");
    assert_eq!(
        send(&simulator, without_body(get(root))).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn an_edited_secret_is_read_when_the_pod_restarts() {
    let simulator = start();
    let old = simulator.license_token();
    let status = async |token: &str| {
        fetch(&simulator, &format!("/products?token={token}"))
            .await
            .status
    };
    simulator.configure_license_token("edited");
    assert_eq!(simulator.license_token(), old);
    assert_eq!(status(&old).await, StatusCode::OK);
    assert_eq!(status("edited").await, StatusCode::UNAUTHORIZED);
    simulator.restart_license_service();
    assert_eq!(status(&old).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("edited").await, StatusCode::OK);
    // A restart without an edit changes nothing.
    simulator.restart_license_service();
    assert_eq!(simulator.license_token(), "edited");
}
