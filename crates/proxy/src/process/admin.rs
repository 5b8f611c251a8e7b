//! The admin addresses: `/livez`, `/readyz` and `/metrics`, read-only, never a path on a listener.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use token_source::Feed;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{metrics::Page, shutdown::Phase, shutdown::PhaseReceiver, worker::Question};
use crate::{
    config::Waiver,
    journey::{
        admit::{Admission, LastHost, Peer},
        survey::Survey,
    },
    tally::Counts,
};

/// What the admin addresses tell.
#[derive(Debug)]
pub struct Admin {
    /// One per credential.
    pub feeds: Vec<Feed>,
    /// For each route its name and the credentials it needs, as indexes into the feeds.
    pub routes: Vec<(Arc<str>, Vec<usize>)>,
    /// Where each worker takes questions.
    pub workers: Vec<mpsc::UnboundedSender<Question>>,
    /// How far the end has come.
    pub phase: PhaseReceiver,
    /// What each worker said last: of one that does not answer in time that is told, since to Prometheus a counter that goes
    /// back is a new process.
    pub last: RefCell<Vec<Counts>>,
    /// The listeners that show a certificate, and when each ends.
    pub certificates: Vec<(Arc<str>, SystemTime)>,
    /// Defences that were given up by name.
    pub waivers: Vec<Waiver>,
}

/// Who may ask at an admin address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// This machine only: the Host is checked as on a listener.
    Local,
    /// Kubelet and Prometheus, which come by the pod's address.
    Probe,
}

/// An open connection.
struct Talk {
    task: JoinHandle<()>,
    /// When something was last asked on it; those on which nothing ever was come first.
    asked: Rc<Cell<Option<Instant>>>,
}

impl Admin {
    /// Answers at an address for as long as the process lives.
    pub async fn serve(self: Rc<Self>, socket: TcpListener, asker: Asker) {
        let mut open: Vec<Talk> = Vec::new();
        loop {
            let Ok((stream, remote)) = socket.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            // Those who say nothing take neither the descriptors that requests need nor the places of those who ask.
            open.retain(|talk| !talk.task.is_finished());
            if open.len() == MOST_OPEN {
                open.sort_by_key(|talk| talk.asked.get());
                open.remove(0).task.abort();
            }
            let (admin, asked) = (Rc::clone(&self), Rc::new(Cell::new(None)));
            let asks = Rc::clone(&asked);
            let talk = async move { admin.converse(stream, remote, asker, &asks).await };
            let task = tokio::task::spawn_local(talk);
            open.push(Talk { task, asked });
        }
    }

    async fn converse(
        self: Rc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
        asker: Asker,
        asked: &Cell<Option<Instant>>,
    ) {
        let Ok(local) = stream.local_addr() else {
            return;
        };
        let peer = Peer::Tcp { remote, local };
        let service = service_fn(|request| {
            asked.set(Some(Instant::now()));
            let admin = Rc::clone(&self);
            async move { Ok::<_, Infallible>(admin.answer(request, peer, asker).await) }
        });
        let mut builder = http1::Builder::new();
        let builder = builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT);
        if let Err(error) = builder
            .serve_connection(TokioIo::new(stream), service)
            .await
        {
            tracing::debug!(%error, "admin connection ended");
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        asker: Asker,
    ) -> Response<Full<Bytes>> {
        let (head, _) = request.into_parts();
        if asker == Asker::Local
            && let Err(fault) = Admission::default().admit(
                &peer,
                &head,
                Survey::of(&head.headers),
                &LastHost::default(),
            )
        {
            return text(fault.status(), fault.told_to_client());
        }
        if head.method != Method::GET && head.method != Method::HEAD {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "read-only");
            let methods = HeaderValue::from_static("GET, HEAD");
            answer.headers_mut().insert(header::ALLOW, methods);
            return answer;
        }
        match head.uri.path() {
            "/livez" => text(StatusCode::OK, "alive"),
            "/readyz" => self.readiness(head.uri.query()).await,
            "/metrics" => {
                let (counts, _) = self.ask_workers().await;
                let page = Page::new(counts, &self.feeds, &self.certificates, &self.waivers).text();
                answer(StatusCode::OK, METRICS_TYPE, page)
            }
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /livez, /readyz and /metrics",
            ),
        }
    }

    /// Ready: every credential has been tried, a route can be served, every worker answers, and no end is near.
    /// `?require=all` and `?require=NAME` want valid credentials besides.
    async fn readiness(&self, query: Option<&str>) -> Response<Full<Bytes>> {
        let required: Vec<&str> = query
            .into_iter()
            .flat_map(|query| query.split('&'))
            .filter_map(|pair| pair.strip_prefix("require="))
            .collect();
        let mut missing = Vec::new();
        if *self.phase.borrow() != Phase::Serving {
            missing.push("draining".to_owned());
        }
        let statuses: Vec<_> = self
            .feeds
            .iter()
            .map(|feed| (feed.name(), feed.status()))
            .collect();
        for (name, status) in &statuses {
            if !status.tried {
                missing.push(format!("credential {name}: not tried yet"));
            } else if !status.valid
                && required
                    .iter()
                    .any(|wanted| *wanted == "all" || *wanted == &***name)
            {
                missing.push(format!(
                    "credential {name}: {}",
                    status.last_error.unwrap_or("no valid value")
                ));
            }
        }
        let unknown = required.iter().filter(|wanted| {
            **wanted != "all" && !statuses.iter().any(|(name, _)| &***name == **wanted)
        });
        missing.extend(unknown.map(|_| "require: no credential of this name".to_owned()));
        let servable =
            |needs: &[usize]| needs.iter().all(|credential| statuses[*credential].1.valid);
        if !self.routes.iter().any(|(_, needs)| servable(needs)) {
            for (name, needs) in &self.routes {
                for (credential, status) in needs
                    .iter()
                    .map(|credential| &statuses[*credential])
                    .filter(|(_, s)| !s.valid)
                {
                    let why = status.last_error.unwrap_or("no valid value yet");
                    missing.push(format!("route {name}: credential {credential}: {why}"));
                }
            }
        }
        // What is wrong with credentials that serve all the same.
        let notes: Vec<_> = (statuses.iter())
            .filter(|(_, status)| status.valid)
            .filter_map(|(name, status)| Some(format!("credential {name}: {}", status.last_error?)))
            .collect();
        let (_, silent) = self.ask_workers().await;
        if silent > 0 {
            missing.push(format!("workers that do not answer: {silent}"));
        }
        let status = if missing.is_empty() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        answer(
            status,
            "application/json",
            json!({"ready": missing.is_empty(), "missing": missing, "notes": notes}).to_string(),
        )
    }

    /// What the workers counted, and how many of them did not answer in time.
    async fn ask_workers(&self) -> (Counts, usize) {
        let mut counts = Counts::default();
        let mut silent = 0;
        let asked: Vec<_> = (self.workers.iter())
            .map(|worker| {
                let (answer, answered) = oneshot::channel();
                // A worker that is gone drops the channel, and so counts as silent.
                let _ = worker.send(Question::Counts(answer));
                answered
            })
            .collect();
        let end = Instant::now() + PATIENCE;
        for (index, answered) in asked.into_iter().enumerate() {
            match timeout_at(end, answered).await {
                Ok(Ok(of_worker)) => self.last.borrow_mut()[index] = of_worker,
                _ => silent += 1,
            }
            counts.add(self.last.borrow()[index].clone());
        }
        (counts, silent)
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Connections to an admin address at a time; for one more that is closed which has been silent for longest.
const MOST_OPEN: usize = 64;

/// How long workers may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(1);

/// From the first byte of an admin request to the end of its head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait when there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_counts_of_a_worker_that_does_not_answer_do_not_go_back() {
        let (sends, mut asked) = mpsc::unbounded_channel();
        let admin = Admin {
            feeds: Vec::new(),
            routes: Vec::new(),
            workers: vec![sends],
            phase: watch::channel(Phase::Serving).1,
            last: RefCell::new(vec![Counts::default()]),
            certificates: Vec::new(),
            waivers: Vec::new(),
        };
        let worker = async {
            let Some(Question::Counts(answer)) = asked.recv().await else {
                panic!("a question");
            };
            let mut counts = Counts::default();
            counts.opened.insert("platform".into(), 7);
            answer.send(counts).unwrap();
        };
        let ((counts, silent), ()) = tokio::join!(admin.ask_workers(), worker);
        assert_eq!((counts.opened["platform"], silent), (7, 0));
        for _ in 0..2 {
            let (counts, silent) = admin.ask_workers().await;
            assert_eq!((counts.opened["platform"], silent), (7, 1));
        }
    }
}
