//! A client and a server that speak HTTP/2 and say exactly what they are told to.

use std::{future::poll_fn, net::SocketAddr, pin::Pin, thread, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client, server};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};

use crate::{client::PATIENCE, proxy::Proxy};

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A client on a connection of its own, plain and without asking first.
#[derive(Clone)]
pub(crate) struct Http2(pub(crate) client::SendRequest<Bytes>);

impl Http2 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &client::Builder::new()).await
    }

    pub(crate) async fn connect_with(address: SocketAddr, builder: &client::Builder) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self(sender.ready().await.unwrap())
    }

    /// Begins a request whose body goes on.
    pub(crate) fn begin(
        &self,
        request: Request<()>,
    ) -> (client::ResponseFuture, SendStream<Bytes>) {
        self.0.clone().send_request(request, false).unwrap()
    }

    pub(crate) async fn get(&self, target: &str) -> Result<Reply, h2::Error> {
        let request = Request::get(uri(target)).body(()).unwrap();
        self.send(request, None).await
    }

    pub(crate) async fn send(
        &self,
        request: Request<()>,
        body: Option<&[u8]>,
    ) -> Result<Reply, h2::Error> {
        let (answer, mut sending) = self.0.clone().send_request(request, body.is_none())?;
        if let Some(body) = body {
            sending.send_data(Bytes::copy_from_slice(body), true)?;
        }
        within(read(answer)).await
    }
}

pub(crate) fn uri(target: &str) -> String {
    format!("http://localhost{target}")
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("an end in time")
}

/// Waits until nothing is under way. A stream is called off only while its connection is driven, which is not the case when
/// the test waits for the end of the process.
pub(crate) async fn settle(proxy: &Proxy) {
    within(async {
        while proxy.metric("watsonx_auth_proxy_requests_in_flight") > 0.0 {
            pause(Duration::from_millis(10)).await;
        }
    })
    .await;
}

pub(crate) async fn read(answer: client::ResponseFuture) -> Result<Reply, h2::Error> {
    let (head, mut body) = answer.await?.into_parts();
    let (bytes, _) = drain(&mut body).await?;
    Ok(Reply {
        status: head.status,
        headers: head.headers,
        body: bytes,
    })
}

/// The whole of a body.
pub(crate) async fn drain(
    body: &mut RecvStream,
) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        bytes.extend(piece);
    }
    Ok((bytes, body.trailers().await?))
}

/// What a scripted upstream does with a request; it is told which connection this is, from 0.
pub(crate) type Script = dyn Fn(usize, Request<RecvStream>, server::SendResponse<Bytes>) -> Pin<Box<dyn Future<Output = ()>>>
    + Send
    + Sync;

/// A server that treats each request by `script`, on a thread of its own.
pub(crate) fn upstream(
    most_streams: u32,
    script: impl Fn(
        usize,
        Request<RecvStream>,
        server::SendResponse<Bytes>,
    ) -> Pin<Box<dyn Future<Output = ()>>>
    + Send
    + Sync
    + 'static,
) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let script: &'static Script = Box::leak(Box::new(script));
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::task::spawn_local(async move {
                    let mut builder = server::Builder::new();
                    builder.max_concurrent_streams(most_streams);
                    let Ok(mut connection) = builder.handshake(stream).await else {
                        return;
                    };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        if request.uri().path().ends_with("/go-away") {
                            connection.graceful_shutdown();
                        }
                        tokio::task::spawn_local(script(number, request, respond));
                    }
                    poll_fn(|cx| connection.poll_closed(cx)).await.ok();
                });
            }
        });
    });
    address
}

/// Answers with a head and a whole body.
pub(crate) fn respond(
    respond: &mut server::SendResponse<Bytes>,
    head: http::response::Builder,
    body: impl Into<Bytes>,
) {
    let mut stream = respond
        .send_response(head.body(()).unwrap(), false)
        .unwrap();
    stream.send_data(body.into(), true).unwrap();
}

pub(crate) fn ok() -> http::response::Builder {
    Response::builder()
}

pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
