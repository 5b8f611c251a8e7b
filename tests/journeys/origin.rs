//! An upstream that judges what reaches it, byte by byte, and a proxy in front of it.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use crate::{
    client::{self, eventually},
    proxy::{Proxy, World},
    strict::{self, Message, Read},
};

/// What came over one connection, in order.
#[derive(Debug, Clone)]
pub(crate) enum Came {
    /// A request, whole and by the book.
    Whole(Message),
    /// Bytes that are the beginning of no request, and why.
    Malformed(String),
    /// The beginning of a request, and the end of its connection.
    Cut(String),
}

/// What becomes of a connection after an answer on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It goes on.
    Goes,
    /// It ends.
    Ends,
}

/// A server that reads strictly, keeps what it got, and answers each whole request.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    came: Arc<Mutex<Vec<Came>>>,
    open: Arc<Mutex<usize>>,
}

impl Origin {
    /// One that answers with the first line of the request.
    pub(crate) fn echoing() -> Self {
        Self::answering(|request| {
            let text = &request.start;
            let length = text.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            match request.method() {
                "HEAD" => head.into_bytes(),
                _ => format!("{head}{text}").into_bytes(),
            }
        })
    }

    /// One that answers with these bytes.
    pub(crate) fn answering(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::scripted(move |request, _| (answer(request), Then::Goes))
    }

    /// One that answers with these bytes, by the request and the number of its connection.
    pub(crate) fn scripted(
        answer: impl Fn(&Message, usize) -> (Vec<u8>, Then) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Self {
            address: listener.local_addr().unwrap(),
            came: Arc::default(),
            open: Arc::default(),
        };
        let (serving, answer) = (origin.clone(), Arc::new(answer));
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (serving, answer, mut stream) =
                    (serving.clone(), Arc::clone(&answer), stream.unwrap());
                *serving.open.lock().unwrap() += 1;
                thread::spawn(move || {
                    let last = serving.serve(&mut stream, |request| answer(request, number));
                    // Before the connection ends: who sees its end sees what came of it.
                    serving.came.lock().unwrap().extend(last);
                    drop(stream);
                    *serving.open.lock().unwrap() -= 1;
                });
            }
        });
        origin
    }

    fn serve(
        &self,
        stream: &mut TcpStream,
        answer: impl Fn(&Message) -> (Vec<u8>, Then),
    ) -> Option<Came> {
        let mut bytes = Vec::new();
        loop {
            match strict::request(&bytes) {
                Read::Whole(message, size) => {
                    bytes.drain(..size);
                    self.came.lock().unwrap().push(Came::Whole(message.clone()));
                    let (answer, then) = answer(&message);
                    if stream.write_all(&answer).is_err() || then == Then::Ends {
                        return None;
                    }
                    continue;
                }
                Read::Malformed(why) => {
                    return Some(Came::Malformed(format!("{why}: {}", shown(&bytes))));
                }
                Read::Partial => {}
            }
            let mut piece = [0; 16 << 10];
            match stream.read(&mut piece) {
                Ok(size) if size > 0 => bytes.extend_from_slice(&piece[..size]),
                _ if bytes.is_empty() => return None,
                _ => return Some(Came::Cut(shown(&bytes))),
            }
        }
    }

    /// What came so far; asked for again from the next call on.
    pub(crate) fn take(&self) -> Vec<Came> {
        std::mem::take(&mut self.came.lock().unwrap())
    }

    /// The whole requests that came so far; fails if anything else did.
    pub(crate) fn take_whole(&self) -> Vec<Message> {
        let whole = |came| match came {
            Came::Whole(message) => message,
            other => panic!("{other:?}"),
        };
        self.take().into_iter().map(whole).collect()
    }

    /// Waits until so many connections are open.
    pub(crate) fn wait_for_open(&self, count: usize) {
        eventually(&format!("{count} open connections"), || {
            (*self.open.lock().unwrap() == count).then_some(())
        });
    }

    /// A proxy in front of it, with more keys of the listener, the upstream and the route.
    pub(crate) fn proxied(
        &self,
        world: &World,
        listener: &str,
        upstream: &str,
        route: &str,
    ) -> Proxy {
        let attach = match route.contains("attach = ") {
            true => "",
            false => "attach = 'raw'\n",
        };
        let proxy = world.start_with(&format!(
            "workers = 1\nadmin = {{ address = '127.0.0.1:0' }}\n[listener.local]\naddress = '127.0.0.1:0'\n{listener}\n\
             [upstream.raw]\nurl = 'http://{}'\nplain_http = true\n{upstream}\n\
             [credential.raw.token]\nvalue = {{ file = 'license-token' }}\nupstream = 'raw'\n\
             [route.raw]\npath = '/'\nupstream = 'raw'\n{attach}{route}\n",
            self.address
        ));
        proxy.ready();
        proxy
    }
}

/// What `Authorization` must be, once, on each request that reaches an [`Origin`].
pub(crate) const CREDENTIAL: &[u8] = b"Bearer canary+license/token=7c";

/// Fails unless a request carries exactly the credential, and once.
pub(crate) fn assert_credential(message: &Message) {
    assert_eq!(message.all("authorization"), [CREDENTIAL], "{message:?}");
    let values = message
        .fields
        .iter()
        .chain(&message.trailers)
        .map(|(_, value)| value.as_slice());
    let all = values
        .chain([message.start.as_bytes(), &message.body])
        .collect::<Vec<_>>()
        .concat();
    let count = String::from_utf8_lossy(&all).matches("canary").count();
    assert_eq!(count, 1, "{message:?}");
}

/// Sends bytes on a connection of their own; everything that comes back until it ends.
pub(crate) fn everything(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = client::connect(address);
    // It may have been closed before all was written.
    let _ = stream.write_all(bytes);
    let mut all = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return all,
            Ok(size) => all.extend_from_slice(&piece[..size]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("no end after {}: {error}", shown(&all)),
        }
    }
}

/// The answers in these bytes, which nothing follows; `false` where the last one is cut.
pub(crate) fn answers(mut bytes: &[u8]) -> (Vec<Message>, bool) {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        match strict::answer(bytes, false, true) {
            Read::Whole(message, size) => {
                answers.push(message);
                bytes = &bytes[size..];
            }
            Read::Partial => return (answers, false),
            Read::Malformed(why) => panic!("the client got {why}: {}", shown(bytes)),
        }
    }
    (answers, true)
}

/// Fails unless what reached the upstream is what was sent, but for what belongs to the proxy.
pub(crate) fn assert_same(sent: &Message, came: &Message) {
    assert_eq!(sent.method(), came.method(), "{sent:?} {came:?}");
    let target = sent.target();
    let path = target
        .strip_prefix("http://")
        .map_or(target, |rest| rest.find('/').map_or("/", |at| &rest[at..]));
    assert_eq!(path, came.target(), "{sent:?}");
    assert_eq!(shown(&sent.body), shown(&came.body));
    assert!(sent.body == came.body);
    assert_eq!(end_to_end(sent), end_to_end(came), "{sent:?} {came:?}");
    assert!(came.trailers.is_empty(), "forged in trailers: {came:?}");
}

/// The fields of a request that a proxy has to leave alone, by name, each name's values in order.
pub(crate) fn end_to_end(message: &Message) -> Vec<(String, String)> {
    let lists = message.all("connection");
    let nominated = lists
        .iter()
        .flat_map(|list| list.split(|b| *b == b','))
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase());
    let nominated: Vec<_> = nominated.collect();
    let is_kept = |name: &str| {
        let dashed = name.replace('_', "-");
        !OWNED.contains(&&*dashed)
            && !dashed.starts_with("proxy-")
            && !dashed.starts_with("x-forwarded-")
            && !nominated.iter().any(|nominated| nominated == name)
    };
    let fields = message.fields.iter().filter(|(name, _)| is_kept(name));
    let mut kept: Vec<_> = fields
        .map(|(name, value)| (name.clone(), value.escape_ascii().to_string()))
        .collect();
    // The order of fields with different names means nothing.
    kept.sort_by(|a, b| a.0.cmp(&b.0));
    kept
}

/// Of one connection, framing (compared by what it frames), or the proxy's to decide.
const OWNED: [&str; 15] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-proxy-key",
    "http2-settings",
];

/// Bytes as a test's message shows them.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(600)];
    start.escape_ascii().to_string()
}
