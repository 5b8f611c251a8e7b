//! gRPC passes in both directions with a credential attached: messages as they come, trailers, deadlines, errors.

use std::{convert::Infallible, net::SocketAddr, pin::Pin, sync::Arc, thread, time::Duration};

use bytes::{Buf as _, BufMut as _};
use http::uri::PathAndQuery;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::{Stream, StreamExt as _, iter, wrappers::UnboundedReceiverStream};
use tonic::{
    Code, Request, Response, Status, Streaming, client,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{self, StreamingService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{
    proxy::{Proxy, World},
    scripted::Nobody,
    streams::{pause, within},
};

/// Messages are bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Status>> + Send>>;

/// What the method of the path does with the messages.
struct Echo(String);

impl StreamingService<Vec<u8>> for Echo {
    type Response = Vec<u8>;
    type ResponseStream = Messages;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Messages>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Vec<u8>>>) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move {
            let (metadata, _, mut messages) = request.into_parts();
            let token = metadata.get("iam-token").map(|token| token.is_empty());
            if token != Some(false) || metadata.contains_key("authorization") {
                return Err(Status::unauthenticated("no credential, or a forged one"));
            }
            let answer: Messages = match path.as_str() {
                "/Bidi" => Box::pin(messages),
                "/Server" => {
                    let message = messages.message().await?.unwrap_or_default();
                    Box::pin(iter(message).map(|byte| Ok(vec![byte])))
                }
                "/Fails" => return Err(Status::invalid_argument("not like this")),
                "/Breaks" => Box::pin(iter([Ok(b"a".to_vec()), Err(Status::data_loss("gone"))])),
                "/Late" => {
                    let timeout = metadata.get("grpc-timeout").is_some();
                    pause(Duration::from_secs(if timeout { 20 } else { 0 })).await;
                    Box::pin(iter([]))
                }
                _ => {
                    let mut all = Vec::new();
                    while let Some(message) = messages.message().await? {
                        all.extend(message);
                    }
                    Box::pin(iter([Ok(all)]))
                }
            };
            Ok(Response::new(answer))
        })
    }
}

/// A gRPC server on a thread of its own; with TLS where it has a certificate.
fn grpc_server(tls: Option<TlsAcceptor>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let serve = async move {
        let listener = TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let tls = tls.clone();
            tokio::spawn(async move {
                let service = service_fn(|request: http::Request<hyper::body::Incoming>| async {
                    let method = request.uri().path().trim_start_matches("/base").to_owned();
                    let answer = server::Grpc::new(Raw)
                        .streaming(Echo(method), request)
                        .await;
                    Ok::<_, Infallible>(answer)
                });
                let builder = http2::Builder::new(TokioExecutor::new());
                match tls {
                    None => drop(
                        builder
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    ),
                    Some(tls) => {
                        let stream = TokioIo::new(tls.accept(stream).await.unwrap());
                        drop(builder.serve_connection(stream, service).await);
                    }
                }
            });
        }
    };
    thread::spawn(move || runtime.block_on(serve));
    address
}

/// A proxy with a plain or a TLS listener before a plain or a TLS server.
fn proxy(world: &World, tls: bool) -> Proxy {
    let (upstream, listener) = if tls {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        world.write("server.crt", &certificate.pem());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let private = key.serialize_der().try_into().unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let address = grpc_server(Some(Arc::new(config).into()));
        (
            format!(
                "url = 'https://localhost:{}/base'\ntls = {{ ca = 'server.crt' }}",
                address.port()
            ),
            "tls = { self_signed = true }",
        )
    } else {
        let address = grpc_server(None);
        (
            format!("url = 'http://{address}/base'\nplain_http = true"),
            "",
        )
    };
    start(world, &upstream, listener)
}

fn start(world: &World, upstream: &str, listener: &str) -> Proxy {
    world.start_with(&format!(
        "workers = 1\nstate_dir = 'state'\nadmin = {{ address = '127.0.0.1:0' }}\n\
         [listener.local]\naddress = '127.0.0.1:0'\n{listener}\n\
         [upstream.grpc]\nprotocol = 'http2'\n{upstream}\n\
         [credential.grpc.token]\nvalue = {{ file = 'license-token' }}\nupstream = 'grpc'\n\
         [route.grpc]\npath = '/'\nupstream = 'grpc'\nattach = [{{ credential = 'grpc', header = 'Iam-Token' }}]\n"
    ))
}

async fn channel(world: &World, proxy: &Proxy, tls: bool) -> client::Grpc<Channel> {
    let port = proxy.address().port();
    let endpoint = if tls {
        let ca = std::fs::read(world.path("state/ca.crt")).unwrap();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://localhost:{port}")).unwrap();
        endpoint.tls_config(tls).unwrap()
    } else {
        Endpoint::from_shared(format!("http://localhost:{port}")).unwrap()
    };
    let mut grpc = client::Grpc::new(endpoint.connect().await.unwrap());
    grpc.ready().await.unwrap();
    grpc
}

fn forged<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("authorization", "Bearer forged".parse().unwrap());
    metadata.insert("iam_token", "forged".parse().unwrap());
    request
}

#[tokio::test]
async fn all_four_kinds_of_call_plain_and_over_tls() {
    for tls in [false, true] {
        let world = World::new();
        let proxy = proxy(&world, tls);
        let mut grpc = channel(&world, &proxy, tls).await;
        let path = PathAndQuery::from_static;

        let unary = grpc.unary(forged(b"one".to_vec()), path("/Unary"), Raw);
        let unary: Response<Vec<u8>> = within(unary).await.unwrap();
        assert_eq!(unary.into_inner(), b"one");

        grpc.ready().await.unwrap();
        let messages = iter([b"one".to_vec(), b"two".to_vec()]);
        let whole = grpc.client_streaming(forged(messages), path("/Client"), Raw);
        let whole: Response<Vec<u8>> = within(whole).await.unwrap();
        assert_eq!(whole.into_inner(), b"onetwo");

        grpc.ready().await.unwrap();
        let server = grpc.server_streaming(forged(b"abc".to_vec()), path("/Server"), Raw);
        let mut server: Streaming<Vec<u8>> = within(server).await.unwrap().into_inner();
        for expected in [b"a", b"b", b"c"] {
            assert_eq!(within(server.message()).await.unwrap().unwrap(), expected);
        }
        assert!(within(server.message()).await.unwrap().is_none());

        // Each message is answered before the next is sent.
        grpc.ready().await.unwrap();
        let (send, messages) = mpsc::unbounded_channel();
        let messages = UnboundedReceiverStream::new(messages);
        let both = grpc.streaming(forged(messages), path("/Bidi"), Raw);
        let mut both: Streaming<Vec<u8>> = within(both).await.unwrap().into_inner();
        for round in 0..5_u8 {
            send.send(vec![round; 1000]).unwrap();
            assert_eq!(
                within(both.message()).await.unwrap().unwrap(),
                vec![round; 1000]
            );
        }
        drop(send);
        assert!(within(both.message()).await.unwrap().is_none());
        world.end(proxy);
    }
}

#[tokio::test]
async fn errors_and_deadlines_are_the_servers_and_the_clients_own() {
    let world = World::new();
    let proxy = proxy(&world, false);
    let mut grpc = channel(&world, &proxy, false).await;
    let path = PathAndQuery::from_static;

    // An answer that is nothing but trailers.
    let failed = within(grpc.unary(forged(Vec::new()), path("/Fails"), Raw)).await;
    let failed: Status = failed.map(|_: Response<Vec<u8>>| ()).unwrap_err();
    assert_eq!(
        (failed.code(), failed.message()),
        (Code::InvalidArgument, "not like this")
    );

    grpc.ready().await.unwrap();
    let broken = grpc.server_streaming(forged(Vec::new()), path("/Breaks"), Raw);
    let mut broken: Streaming<Vec<u8>> = within(broken).await.unwrap().into_inner();
    assert_eq!(within(broken.message()).await.unwrap().unwrap(), b"a");
    let status = within(broken.message()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DataLoss, "gone"));

    // The server is told of the deadline: it waits only then.
    grpc.ready().await.unwrap();
    let mut late = forged(Vec::new());
    late.set_timeout(Duration::from_secs(3));
    let late = within(grpc.unary(late, path("/Late"), Raw)).await;
    let late: Status = late.map(|_: Response<Vec<u8>>| ()).unwrap_err();
    assert!(
        matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{late:?}"
    );
    // The call is called off on the wire too.
    within(async {
        while !proxy.printed().contains("client_gone") {
            pause(Duration::from_millis(50)).await;
        }
    })
    .await;
    world.end(proxy);
}

#[tokio::test]
async fn a_fault_of_the_proxy_is_a_status_to_grpc_clients() {
    let world = World::new();
    let nobody = Nobody::new();
    let proxy = start(
        &world,
        &format!("url = 'http://{}'\nplain_http = true", nobody.address()),
        "",
    );
    let mut grpc = channel(&world, &proxy, false).await;
    for (path, code) in [
        ("/Unary", Code::Unavailable),
        ("/icp4d-api/v1/users", Code::PermissionDenied),
    ] {
        grpc.ready().await.unwrap();
        let failed =
            within(grpc.unary(forged(Vec::new()), PathAndQuery::from_static(path), Raw)).await;
        let failed: Status = failed.map(|_: Response<Vec<u8>>| ()).unwrap_err();
        assert_eq!(failed.code(), code, "{failed:?}");
    }
    world.end(proxy);
}
