//! Forward: the request goes to the upstream and the head of its answer comes back.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use http::request::Parts;
use http_body::Body as _;
use token_source::connect::with_causes;

use super::{
    answer::{Incoming, Passing},
    http1::{Head, Unanswered},
    multiplex,
    pool::Pool,
    upload::Upload,
};
use crate::{fault::Fault, sweep::Watch};

/// Sends a request over an idle connection or a new one, and waits for the head of the answer.
///
/// An idempotent request is sent again on a new connection when the upstream closed an idle one before a byte of an answer,
/// unless more of its body had gone out than is kept. A request that asks for an upgrade has a new connection to itself.
///
/// # Errors
/// `upstream_*`; `bad_request`, `body_too_large` and `client_gone` when the client's body ends the request.
pub async fn forward(
    pool: &Rc<Pool>,
    head: &Parts,
    mut upload: Upload,
    upgrades: bool,
) -> Result<(Head, Box<Passing>), Fault> {
    // Boxed, as what is rare is here: each request has room for all that is not.
    if let Some(streams) = &pool.streams {
        return Box::pin(multiplex::forward(pool, streams, head, upload)).await;
    }
    let upstream = pool.upstream();
    let progress = upload.progress();
    // Of a body it is not known yet whether it can be sent twice.
    let repeatable = upload.is_end_stream() && head.method.is_idempotent();
    let idle = if upgrades {
        None
    } else {
        pool.idle(!repeatable)
    };
    let mut connection = match idle {
        Some(connection) => connection,
        None => Box::pin(pool.open(upgrades)).await?,
    };
    loop {
        let watch = Rc::clone(&connection.watch);
        upload.moves_deadline(&watch, upstream.first_byte_timeout);
        watch.arm(upstream.first_byte_timeout);
        let answer = before(&watch, pin!(connection.ask(head, upload))).await;
        let error = match answer {
            None => return Err(upstream.late("first_byte_timeout")),
            Some(Ok(answer)) => {
                progress.answered.set(true);
                let incoming = Incoming::Alone(connection);
                return Ok((answer, Passing::new(incoming, pool, progress)));
            }
            Some(Err(error)) => error,
        };
        if let Some(fault) = progress.fault.get() {
            return Err(fault);
        }
        let was_idle = connection.reused && matches!(error, Unanswered::Unheard(_));
        if !(was_idle && head.method.is_idempotent() && progress.hold()?) {
            progress.forget();
            tracing::warn!(upstream = %upstream.name, error = with_causes(&error), "no answer");
            return Err(error.fault());
        }
        tracing::debug!(upstream = %upstream.name, "the upstream closed an idle connection, sending again");
        upload = progress.again();
        connection = Box::pin(pool.open(upgrades)).await?;
    }
}

/// The future's output, unless the deadline passes first.
pub async fn before<F: Future>(watch: &Watch, mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => watch.poll_passed(cx).map(|()| None),
    })
    .await
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{SocketAddr, TcpListener, TcpStream},
        sync::Arc,
        thread,
        time::Duration,
    };

    use http::{HeaderValue, Method, Request};
    use token_source::{Connector, Origin};
    use tokio::runtime::{Builder, LocalOptions};

    use super::{super::pool::Upstream, *};
    use crate::{
        config::Protocol,
        sweep::{Sweeper, ticks},
        tally::Tally,
    };

    /// The upstream's end of the next connection, after it has answered one request on it.
    fn answered_once(listener: &TcpListener) -> TcpStream {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        stream
    }

    async fn ask(pool: &Rc<Pool>, method: Method) -> Result<u16, Fault> {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = method;
        head.headers
            .insert(http::header::HOST, HeaderValue::from_static("upstream"));
        let ((head, _), passing) = forward(pool, &head, Upload::empty(), false).await?;
        let (connection, _) = passing.into_connection().unwrap();
        pool.put_back(connection);
        Ok(head.status.as_u16())
    }

    /// An empty pool for a server at this address, and what keeps its time.
    pub(in crate::journey) fn pool_of(
        address: SocketAddr,
        protocol: Protocol,
        patience: Duration,
    ) -> Rc<Pool> {
        let url = format!("http://{address}");
        let upstream = Arc::new(Upstream {
            name: Arc::from("odd"),
            authority: HeaderValue::from_static("upstream"),
            protocol,
            connector: Connector::new(Origin::parse(&url, Arc::default()).unwrap()),
            connect_timeout: patience,
            first_byte_timeout: patience,
            idle_timeout: patience,
        });
        let sweeper = Sweeper::new();
        let sweeping = Rc::clone(&sweeper);
        tokio::task::spawn_local(async move { sweeping.run(|| ()).await });
        Pool::new(upstream, sweeper, &Tally::default())
    }

    /// What comes of `steps` with an empty pool for this server.
    pub(in crate::journey) fn with_pool<T>(
        server: &TcpListener,
        protocol: Protocol,
        steps: impl AsyncFnOnce(&Rc<Pool>) -> T,
    ) -> T {
        let address = server.local_addr().unwrap();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .unwrap();
        runtime
            .block_on(async { steps(&pool_of(address, protocol, Duration::from_secs(10))).await })
    }

    /// What the upstream does to an idle connection at the last moment: the kernel knows it, and nobody has asked yet.
    fn once_more(
        method: Method,
        last_moment: fn(TcpStream) -> Option<TcpStream>,
    ) -> Result<u16, Fault> {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let listener = server.try_clone().unwrap();
        with_pool(&server, Protocol::Http1, async |pool| {
            let first = thread::spawn(move || (answered_once(&listener), listener));
            assert_eq!(ask(pool, Method::GET).await, Ok(200));
            let (stream, listener) = first.join().unwrap();
            let stream = last_moment(stream);
            thread::spawn(move || drop(answered_once(&listener)));
            let answer = ask(pool, method).await;
            drop(stream);
            answer
        })
    }

    #[test]
    fn what_a_burst_left_is_closed_sooner() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        with_pool(&server, Protocol::Http1, async |pool| {
            for _ in 0..20 {
                pool.put_back(pool.open(false).await.unwrap());
            }
            let left = |after| {
                pool.reap(ticks(Duration::from_secs(after)));
                pool.idle_count()
            };
            assert_eq!([left(1), left(6), left(49), left(51)], [20, 8, 8, 0]);
        });
    }

    #[test]
    fn an_idle_connection_holds_nothing_of_an_answer() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let listener = server.try_clone().unwrap();
        with_pool(&server, Protocol::Http1, async |pool| {
            let upstream = thread::spawn(move || {
                let stream = answered_once(&listener);
                (stream, listener)
            });
            assert_eq!(ask(pool, Method::GET).await, Ok(200));
            let _open = upstream.join().unwrap();
            assert!(pool.idle_room() > 0, "a busy one keeps its memory");
            pool.reap(ticks(Duration::from_secs(2)));
            assert_eq!((pool.idle_count(), pool.idle_room()), (1, 0));
        });
    }

    #[test]
    fn a_request_that_cannot_be_sent_twice_does_not_meet_a_closed_connection() {
        let close = |stream| {
            drop(stream);
            None
        };
        assert_eq!(once_more(Method::POST, close), Ok(200));
        assert_eq!(once_more(Method::GET, close), Ok(200));
    }

    #[test]
    fn what_lay_on_a_connection_is_no_answer() {
        let poison = |mut stream: TcpStream| {
            stream
                .write_all(b"HTTP/1.1 418 Not Yours\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
            Some(stream)
        };
        assert_eq!(once_more(Method::POST, poison), Ok(200));
    }
}
