//! Servers that speak raw bytes, and attempts at them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use secrecy::ExposeSecret as _;
use tempfile::NamedTempFile;
use token_source::{
    Kind, Location, Origin, Settings,
    credential::Text,
    exchange::{self, ExchangeError, Grant, Record},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

pub(crate) const SECRET: &str = "c4nary-s3cret&=+%\"";

/// Answers each connection, in turn, with the next of these bytes, and keeps what was sent.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) async fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = requests.clone();
        tokio::spawn(async move {
            for answer in answers {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let request = read_request(&mut tcp).await;
                kept.lock().unwrap().push(request);
                let _ = tcp.write_all(&answer).await;
                let _ = tcp.shutdown().await;
            }
        });
        Self { address, requests }
    }

    pub(crate) fn origin(&self, path: &str) -> Origin {
        Origin::parse(&format!("http://{}{path}", self.address), Arc::default()).unwrap()
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

pub(crate) async fn read_request(tcp: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text.into_owned();
            }
        }
        if tcp.read_buf(&mut bytes).await.unwrap() == 0 {
            return text_of(&bytes);
        }
    }
}

pub(crate) fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub(crate) fn token(body: &str) -> Vec<u8> {
    answer("200 OK", "content-type: application/json\r\n", body)
}

/// A file with the secret, which lives as long as the test.
pub(crate) fn secret_file() -> (NamedTempFile, Location) {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{SECRET}\n")).unwrap();
    let place = Location::File {
        path: file.path().into(),
        field: None,
    };
    (file, place)
}

pub(crate) fn literal(text: &str) -> Text {
    Text::Literal(text.into())
}

pub(crate) async fn attempt(kind: Kind) -> Result<Grant, ExchangeError> {
    let settings = Settings {
        name: "test".into(),
        kind,
        lifetime: None,
        wait_for_token: None,
        poll: Duration::from_secs(5),
    };
    let outcome = exchange::from_settings(&settings)
        .exchange(&Record::default())
        .await;
    let shown = match &outcome {
        Ok(grant) => format!("{grant:?}"),
        Err(error) => format!("{error:?} {error} {}", error.told()),
    };
    assert!(!shown.contains("c4nary"), "{shown}");
    outcome
}

pub(crate) fn value(grant: &Grant) -> &str {
    #[expect(clippy::disallowed_methods, reason = "a test's own token")]
    grant.value.expose_secret()
}

pub(crate) fn body_of(request: &str) -> &str {
    request.split_once("\r\n\r\n").unwrap().1
}

pub(crate) fn line_of(request: &str) -> &str {
    request.lines().next().unwrap()
}

pub(crate) fn header_of<'r>(request: &'r str, name: &str) -> Option<&'r str> {
    let head = request.split_once("\r\n\r\n").unwrap().0;
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    headers
        .find(|(other, _)| *other == name)
        .map(|(_, value)| value)
}
