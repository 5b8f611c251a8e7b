//! A connection to the API: what is asked on it, and the answers.

use std::{
    collections::HashMap,
    io::{self, BufRead as _, BufReader, Write as _},
    net::TcpStream,
    sync::PoisonError,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{Shared, State, TOKEN, Verb, WatchEnd, object};

/// Answers the requests of a connection, until it ends.
pub(super) fn serve(shared: &Shared, stream: &TcpStream) {
    let mut lines = BufReader::new(stream);
    while let Some((target, token)) = read_head(&mut lines) {
        if shared.state().stopped || answer(shared, stream, &target, &token).is_err() {
            break;
        }
    }
}

/// The target of a GET, and the bearer token.
fn read_head(lines: &mut BufReader<&TcpStream>) -> Option<(String, String)> {
    let (mut target, mut token) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let line = line.trim_end();
        if line.is_empty() {
            return Some((target, token));
        }
        if let Some(rest) = line.strip_prefix("GET ") {
            target = rest.split(' ').next()?.to_owned();
        } else if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            token = value.trim_start_matches("Bearer ").to_owned();
        }
    }
}

fn answer(shared: &Shared, stream: &TcpStream, target: &str, token: &str) -> io::Result<()> {
    let Some(request) = Request::parse(target) else {
        return send_status(stream, 404);
    };
    if token != TOKEN {
        return send_status(stream, 401);
    }
    let mut state = shared.state();
    let version = state.version;
    let secret = state.secrets.entry(request.place()).or_default();
    secret.asked.push(request.verb);
    if let Some(status) = secret.status {
        drop(state);
        return send_status(stream, status);
    }
    let data = secret.data.clone().map(|mut data| {
        if secret.spoilt {
            data.values_mut().for_each(spoil);
        }
        data
    });
    let found = data
        .as_ref()
        .map(|data| object(&request.namespace, &request.name, data, version));
    drop(state);
    match (request.verb, found) {
        (Verb::Get, Some(object)) => send(stream, 200, &object),
        (Verb::Get, None) => send_status(stream, 404),
        (Verb::List, found) => {
            let items: Vec<_> = found.into_iter().collect();
            let list = json!({
                "kind": "SecretList",
                "apiVersion": "v1",
                "metadata": {"resourceVersion": version.to_string()},
                "items": items,
            });
            send(stream, 200, &list)
        }
        (Verb::Watch, _) => watch(shared, stream, &request),
    }
}

/// Sends events of later versions than that of the request as they come, in chunks, until the watch ends.
fn watch(shared: &Shared, mut stream: &TcpStream, request: &Request) -> io::Result<()> {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    let began = request.version;
    let mut sent = began;
    loop {
        let (lines, end, stopped) = {
            let state = shared.state();
            let wait = |state: &mut State| {
                let Some(secret) = state.secrets.get(&request.place()) else {
                    return !state.stopped;
                };
                let has_news = secret.events.iter().any(|(version, _)| *version > sent);
                !(state.stopped || has_news || secret.end(began).is_some())
            };
            let (state, _) = shared
                .changed
                .wait_timeout_while(state, LONGEST_WATCH, wait)
                .unwrap_or_else(PoisonError::into_inner);
            let Some(secret) = state.secrets.get(&request.place()) else {
                return Err(io::ErrorKind::ConnectionAborted.into());
            };
            // Nothing that happened after the end.
            let last = secret.ended.map(|(version, _)| version);
            let last = last.filter(|version| *version > began).unwrap_or(u64::MAX);
            let is_news = |(version, _): &&(u64, String)| (sent + 1..=last).contains(version);
            let lines: Vec<_> = secret.events.iter().filter(is_news).cloned().collect();
            (lines, secret.end(began), state.stopped)
        };
        for (version, line) in lines {
            send_chunk(stream, &format!("{line}\n"))?;
            sent = version;
        }
        match end {
            None if stopped => return Err(io::ErrorKind::ConnectionAborted.into()),
            None => {}
            Some(WatchEnd::Cut) => {
                stream.write_all(b"ff\r\n{\"type\":\"MODIF")?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Some(WatchEnd::Gone) => {
                let event = json!({"type": "ERROR", "object": status(410)});
                send_chunk(stream, &format!("{event}\n"))?;
                return stream.write_all(b"0\r\n\r\n");
            }
            Some(WatchEnd::Orderly) => return stream.write_all(b"0\r\n\r\n"),
        }
    }
}

struct Request {
    verb: Verb,
    namespace: String,
    name: String,
    version: u64,
}

impl Request {
    /// Only what a Role with `resourceNames` allows: one Secret, by its name.
    fn parse(target: &str) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let rest = path.strip_prefix("/api/v1/namespaces/")?;
        let (namespace, rest) = rest.split_once("/secrets")?;
        let query: HashMap<_, _> = form_urlencoded::parse(query.as_bytes()).collect();
        let (verb, name) = if let Some(name) = rest.strip_prefix('/') {
            (Verb::Get, name)
        } else {
            let name = query.get("fieldSelector")?.strip_prefix("metadata.name=")?;
            let is_watch = query.get("watch").is_some_and(|watch| watch == "true");
            (if is_watch { Verb::Watch } else { Verb::List }, name)
        };
        let version = query.get("resourceVersion").map(|version| version.parse());
        Some(Self {
            verb,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            version: version.and_then(Result::ok).unwrap_or(0),
        })
    }

    fn place(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

fn spoil(value: &mut String) {
    let bytes = BASE64_STANDARD.decode(&*value).unwrap_or_default();
    *value = String::from_utf8_lossy(&bytes).into_owned();
}

fn status(code: u16) -> Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        410 => "Expired",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "simulated",
        "reason": reason,
        "code": code,
    })
}

fn send_status(stream: &TcpStream, code: u16) -> io::Result<()> {
    send(stream, code, &status(code))
}

fn send(mut stream: &TcpStream, code: u16, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {code} Simulated\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes())
}

fn send_chunk(mut stream: &TcpStream, text: &str) -> io::Result<()> {
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
}

const LONGEST_WATCH: Duration = Duration::from_secs(300);
