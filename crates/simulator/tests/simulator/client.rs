//! A client of few lines: one connection for each request, trusting the simulator's authority and nothing else.

use std::{io, sync::Arc};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header, request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;
use simulator::{Options, Simulator};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

pub(crate) const PROJECT: &str = "11111111-2222-3333-4444-555555555555";
pub(crate) const MODEL: &str = "ibm/granite-3-3-8b-instruct";
pub(crate) const GENERATION: &str = "/ml/v1/text/generation?version=2026-01-15";

/// What came back.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The code of the first error in a watsonx body.
    pub(crate) fn code(&self) -> String {
        let body = self.json();
        assert_eq!(body["status_code"], self.status.as_u16());
        body["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn start() -> Simulator {
    Simulator::start(Options::default()).unwrap()
}

pub(crate) fn get(url: impl AsRef<str>) -> request::Builder {
    Request::get(url.as_ref())
}

pub(crate) fn post(url: impl AsRef<str>) -> request::Builder {
    Request::post(url.as_ref())
}

pub(crate) fn post_json(url: impl AsRef<str>, body: &Value) -> Request<Full<Bytes>> {
    with_body(
        post(url).header(header::CONTENT_TYPE, "application/json"),
        body.to_string(),
    )
}

pub(crate) fn with_body(builder: request::Builder, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    builder.body(Full::new(body.into())).unwrap()
}

pub(crate) fn without_body(builder: request::Builder) -> Request<Full<Bytes>> {
    with_body(builder, "")
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

pub(crate) fn encoded(scheme: &str, user: &str, secret: &str) -> String {
    format!(
        "{scheme} {}",
        BASE64_STANDARD.encode(format!("{user}:{secret}"))
    )
}

pub(crate) fn post_form(url: impl AsRef<str>, fields: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    with_body(
        post(url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded"),
        form,
    )
}

/// What a token says.
pub(crate) fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// A platform token, obtained with the API key.
pub(crate) async fn token(simulator: &Simulator) -> String {
    let request = post_json(
        simulator.platform_url() + "/icp4d-api/v1/authorize",
        &serde_json::json!({ "username": simulator.username(), "api_key": simulator.api_key() }),
    );
    let reply = send(simulator, request).await;
    reply.json()["token"].as_str().unwrap().to_owned()
}

/// `GET url` with an `Authorization` header.
pub(crate) async fn get_as(simulator: &Simulator, authorization: &str, url: String) -> Reply {
    let request = get(url).header(header::AUTHORIZATION, authorization);
    send(simulator, without_body(request)).await
}

/// A generation with an `Authorization` header.
pub(crate) async fn generate_as(simulator: &Simulator, authorization: &str) -> Reply {
    let body = serde_json::json!({ "model_id": MODEL, "project_id": PROJECT, "input": "hello" });
    let mut request = post_json(simulator.platform_url() + GENERATION, &body);
    let authorization = authorization.try_into().unwrap();
    request
        .headers_mut()
        .insert(header::AUTHORIZATION, authorization);
    send(simulator, request).await
}

pub(crate) async fn send(simulator: &Simulator, request: Request<Full<Bytes>>) -> Reply {
    try_send(simulator, request).await.unwrap()
}

/// Fails when no whole answer came back.
pub(crate) async fn try_send(
    simulator: &Simulator,
    request: Request<Full<Bytes>>,
) -> io::Result<Reply> {
    let authority = request.uri().authority().unwrap().clone();
    let stream = TcpStream::connect(authority.as_str()).await?;
    if request.uri().scheme_str() == Some("http") {
        return exchange(stream, request).await;
    }
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(simulator.ca_pem().as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(authority.host().to_owned()).unwrap();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    exchange(stream, request).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut request: Request<Full<Bytes>>,
) -> io::Result<Reply> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(connection);
    let authority = request.uri().authority().unwrap().as_str().to_owned();
    request
        .headers_mut()
        .insert(header::HOST, authority.try_into().unwrap());
    let target = request.uri().path_and_query().unwrap().clone();
    *request.uri_mut() = Uri::from(target);
    let answer = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(Reply {
        status: head.status,
        headers: head.headers,
        body,
    })
}
