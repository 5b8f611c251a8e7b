//! Bytes of a client through hyper's parser and the steps of the journey: what goes upstream is a request by the
//! letter, with the credential once, and the one that was meant.

#![no_main]

#[expect(dead_code, reason = "the other targets read answers")]
#[path = "../../tests/journeys/strict.rs"]
mod strict;

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::poll_fn,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header, request::Parts};
use http_body_util::Empty;
use hyper::{body::Incoming, server, service::service_fn};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use strict::{Message, Read};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use watsonx_auth_proxy::{
    config::{Forwarded, TokenEndpoints},
    fault::Fault,
    journey::{
        Client,
        admit::{Admission, LastHost, Peer},
        http1::Sending,
        query,
        rewrite::{Rewrite, Via},
        route::{Path, Route},
        survey::Survey,
        upload::Upload,
    },
};

thread_local! {
    static ROUTE: Route = route();
}

fuzz_target!(|data: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let came = Came::default();
    tokio::task::LocalSet::new().block_on(&runtime, serve(data.to_vec(), Rc::clone(&came)));
    // The first one is what a strict reader takes the bytes for, where it takes them at all.
    let came = came.borrow();
    if let (Read::Whole(meant, _), Some((0, came))) = (strict::request(data), came.first()) {
        assert_eq!((meant.method(), &meant.body), (came.method(), &came.body));
    }
});

/// What came upstream, each with the number of the client's request.
type Came = Rc<RefCell<Vec<(usize, Message)>>>;

async fn serve(data: Vec<u8>, came: Came) {
    let (mut near, far) = duplex(4 << 20);
    near.write_all(&data).await.expect("room");
    let count = Cell::new(0);
    let service = service_fn(|request: Request<Incoming>| {
        let (came, number) = (Rc::clone(&came), count.replace(count.get() + 1));
        async move { Ok::<_, Infallible>(travel(request, number, came).await) }
    });
    let mut builder = server::conn::http1::Builder::new();
    builder.max_buf_size(64 << 10).max_header_size(64 << 10);
    let connection = builder.serve_connection(TokioIo::new(far), service);
    // The clock stands still, and goes on when nothing else does.
    let _ = tokio::time::timeout(Duration::from_secs(1), connection).await;
}

async fn travel(request: Request<Incoming>, number: usize, came: Came) -> Response<Empty<Bytes>> {
    let (mut head, body) = request.into_parts();
    if let Err(fault) = ROUTE.with(|route| steps(&mut head, route)) {
        let mut answer = Response::new(Empty::new());
        *answer.status_mut() = fault.status();
        return answer;
    }
    let (mut near, far) = duplex(4 << 20);
    let upload = Upload::new(body, Rc::new(Anybody), false, false);
    let mut sending = Sending::new(&head, upload);
    let sent = async { poll_fn(|cx| sending.poll(&mut near, cx)).await.is_ok() };
    let (sent, ()) = tokio::join!(sent, origin(far, number, came));
    let mut answer = Response::new(Empty::new());
    if !sent {
        *answer.status_mut() = StatusCode::BAD_GATEWAY;
    }
    answer
}

/// A client that nothing has to be told.
#[derive(Debug)]
struct Anybody;

impl Client for Anybody {
    fn peer(&self) -> Peer {
        peer()
    }
    fn waits_for_body(&self, _: bool) {}
    fn body_ended(&self) {}
    fn body_dropped(&self) {}
    fn answered(&self) {}
}

fn peer() -> Peer {
    let address = "127.0.0.1:1".parse().expect("an address");
    Peer::Tcp {
        remote: address,
        local: address,
    }
}

/// The steps that need no socket, in the journey's order.
fn steps(head: &mut Parts, route: &Route) -> Result<(), Fault> {
    let peer = peer();
    let headers = Survey::of(&head.headers);
    let admitted = Admission::default().admit(&peer, head, headers, &LastHost::default())?;
    let came = std::mem::take(&mut head.uri)
        .into_parts()
        .path_and_query
        .ok_or(Fault::BadRequest)?;
    if head.method == Method::OPTIONS && came == "*" {
        return Err(Fault::MethodNotAllowed);
    }
    let path = Path::parse(came.path())?;
    query::check(came.query())?;
    let path = route
        .take(&admitted.host.name, path)
        .ok_or(Fault::NoRoute)?;
    route.pass(&head.method, path)?;
    route
        .rewrite
        .headers(head, &peer, false)?;
    let target = route.rewrite.target(route, &came, path);
    head.headers.insert(
        header::AUTHORIZATION,
        HeaderValue::from_static("Bearer ours"),
    );
    head.uri = Uri::from(target.into_path_and_query()?);
    Ok(())
}

/// Reads strictly.
async fn origin(mut stream: tokio::io::DuplexStream, number: usize, came: Came) {
    let mut bytes = Vec::new();
    loop {
        match strict::request(&bytes) {
            Read::Whole(message, size) => {
                assert_eq!(
                    size,
                    bytes.len(),
                    "more than a request: {:?}",
                    bytes.escape_ascii().to_string()
                );
                assert_eq!(
                    message.all("authorization"),
                    [b"Bearer ours"],
                    "{message:?}"
                );
                came.borrow_mut().push((number, message));
                return;
            }
            Read::Malformed(why) => panic!("{why}: {:?}", bytes.escape_ascii().to_string()),
            Read::Partial => {}
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(size) if size > 0 => bytes.extend_from_slice(&piece[..size]),
            _ => return,
        }
    }
}

fn route() -> Route {
    Route {
        name: "fuzzed".into(),
        prefix: Vec::new(),
        host: None,
        upstream: 0,
        base_path: String::new(),
        strip_prefix: false,
        allow: None,
        deny: Vec::new(),
        warn: false,
        public: Vec::new(),
        token_endpoints: TokenEndpoints::Forward,
        attach: Vec::new(),
        rewrite: Rewrite {
            attaches: true,
            attached_headers: Vec::new().into(),
            of_callers: Vec::new().into(),
            dropped_query: vec!["token".into()],
            default_query: Vec::new(),
            set_headers: Vec::new(),
            pass_cookies: false,
            scrub_body: false,
            forwarded: Forwarded::Remove,
            host: HeaderValue::from_static("upstream"),
            via: Via::new("fuzzed".into()),
        },
        max_body: None,
        limit: None,
        rate: None,
        replay_limit: 0,
    }
}
