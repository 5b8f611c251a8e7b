//! HTTP/1.1 messages by the letter of RFC 9112 and 9110, read by a parser that shares no code with the proxy.
//!
//! It takes nothing that a recipient only MAY take: no bare LF, no folded line, no white space before a colon or after
//! a chunk size, no second `Content-Length`, no transfer coding but one `chunked`.

/// What bytes are, read from their start.
#[derive(Debug)]
pub(crate) enum Read {
    /// One message, and how many bytes it takes.
    Whole(Message, usize),
    /// The beginning of one.
    Partial,
    /// No beginning of any message, and why.
    Malformed(&'static str),
}

/// A message, taken apart.
#[derive(Clone, Default)]
pub(crate) struct Message {
    /// The first line.
    pub(crate) start: String,
    /// Names in lower case, in order.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
    /// The end of the message is the end of the connection.
    pub(crate) ends_connection: bool,
}

impl Message {
    pub(crate) fn all(&self, name: &str) -> Vec<&[u8]> {
        let fields = self.fields.iter().filter(|(found, _)| found == name);
        fields.map(|(_, value)| value.as_slice()).collect()
    }

    /// The method, or the version of an answer.
    pub(crate) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> u16 {
        self.target().parse().unwrap_or_default()
    }

    fn is_http_11(&self) -> bool {
        self.start.starts_with("HTTP/1.1 ") || self.start.ends_with(" HTTP/1.1")
    }

    fn names(&self, token: &str) -> bool {
        let lines = self.all("connection");
        let mut tokens = lines.iter().flat_map(|line| line.split(|b| *b == b','));
        tokens.any(|found| found.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether the sender means to keep the connection after this message.
    pub(crate) fn keeps_connection(&self) -> bool {
        !self.ends_connection
            && !self.names("close")
            && (self.is_http_11() || self.names("keep-alive"))
    }
}

/// A request at the start of these bytes; one empty line before it is ignored.
pub(crate) fn request(bytes: &[u8]) -> Read {
    let skipped = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let (mut message, start) = match head(&bytes[skipped..], request_line) {
        Ok(Some((message, size))) => (message, skipped + size),
        Ok(None) => return Read::Partial,
        Err(why) => return Read::Malformed(why),
    };
    if let Err(why) = host(&message) {
        return Read::Malformed(why);
    }
    let framing = match framing(&message) {
        Ok(framing) => framing.unwrap_or(Framing::Length(0)),
        Err(why) => return Read::Malformed(why),
    };
    body(&mut message, framing, bytes, start, false)
}

/// An answer at the start of these bytes, after any 1xx ones. `ended`: nothing will follow them.
pub(crate) fn answer(bytes: &[u8], to_head: bool, ended: bool) -> Read {
    let mut start = 0;
    loop {
        let (mut message, size) = match head(&bytes[start..], status_line) {
            Ok(Some(found)) => found,
            Ok(None) => return Read::Partial,
            Err(why) => return Read::Malformed(why),
        };
        start += size;
        let framing = match (framing(&message), message.status()) {
            (Err(why), _) => return Read::Malformed(why),
            (_, 101) => return Read::Malformed("a switch of protocols that nobody asked for"),
            (Ok(Some(_)), 100..=199) => return Read::Malformed("a 1xx answer with a body"),
            (_, 100..=199) => continue,
            (_, 204 | 304) => Framing::Length(0),
            _ if to_head => Framing::Length(0),
            (Ok(framing), _) => framing.unwrap_or(Framing::Rest),
        };
        return body(&mut message, framing, bytes, start, ended);
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.start)?;
        for (name, value) in self.fields.iter().chain(&self.trailers) {
            write!(f, " | {name}: {}", value.escape_ascii())?;
        }
        let body = &self.body[..self.body.len().min(100)];
        write!(f, " | {} bytes: {}", self.body.len(), body.escape_ascii())
    }
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
    /// To the end of the connection.
    Rest,
}

type Parsed<T> = Result<T, &'static str>;

fn head(bytes: &[u8], start: impl Fn(&str) -> Parsed<()>) -> Parsed<Option<(Message, usize)>> {
    let mut message = Message::default();
    let Some((line, mut at)) = line(bytes, 0)? else {
        return Ok(None);
    };
    message.start =
        String::from_utf8(line.to_vec()).map_err(|_| "a first line that is not ASCII")?;
    start(&message.start)?;
    let Some((fields, end)) = fields(bytes, at)? else {
        return Ok(None);
    };
    message.fields = fields;
    at = end;
    Ok(Some((message, at)))
}

type Fields = Vec<(String, Vec<u8>)>;

fn fields(bytes: &[u8], mut at: usize) -> Parsed<Option<(Fields, usize)>> {
    let mut fields = Vec::new();
    while let Some((line, next)) = line(bytes, at)? {
        at = next;
        if line.is_empty() {
            return Ok(Some((fields, at)));
        }
        let colon = line
            .iter()
            .position(|b| *b == b':')
            .ok_or("a line without a colon")?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
            return Err("a name that is no token");
        }
        if value
            .iter()
            .any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f)
        {
            return Err("a control character in a value");
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        fields.push((name, value.to_vec()));
    }
    Ok(None)
}

/// A line without its CR LF, and where the next one starts.
fn line(bytes: &[u8], at: usize) -> Parsed<Option<(&[u8], usize)>> {
    let rest = &bytes[at..];
    let Some(end) = rest.iter().position(|b| matches!(b, b'\r' | b'\n' | 0)) else {
        return Ok(None);
    };
    match (rest[end], rest.get(end + 1)) {
        (b'\r', Some(b'\n')) => Ok(Some((&rest[..end], at + end + 2))),
        (b'\r', None) => Ok(None),
        _ => Err("a bare CR, a bare LF or a NUL"),
    }
}

fn request_line(line: &str) -> Parsed<()> {
    let parts: Vec<_> = line.split(' ').collect();
    let [method, target, "HTTP/1.1" | "HTTP/1.0"] = parts[..] else {
        return Err("no request line");
    };
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err("a method that is no token");
    }
    if !target.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err("a target that is no URI");
    }
    let absolute = target.starts_with("http://") || target.starts_with("https://");
    match method {
        _ if target.starts_with('/') || absolute => Ok(()),
        "OPTIONS" if target == "*" => Ok(()),
        "CONNECT" => Ok(()),
        _ => Err("a target of no form"),
    }
}

fn status_line(line: &str) -> Parsed<()> {
    let rest = line
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| line.strip_prefix("HTTP/1.0 "))
        .ok_or("no status line")?;
    let (status, reason) = rest.split_once(' ').ok_or("no space after the status")?;
    let digits = status.len() == 3 && status.bytes().all(|b| b.is_ascii_digit());
    if !digits || !(b'1'..=b'5').contains(&status.as_bytes()[0]) {
        return Err("no status");
    }
    match reason
        .chars()
        .all(|c| c == '\t' || c == ' ' || !c.is_control())
    {
        true => Ok(()),
        false => Err("a control character in the reason"),
    }
}

fn host(message: &Message) -> Parsed<()> {
    let hosts = message.all("host");
    let sound = |host: &[u8]| {
        let name = |b: &u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(b);
        !host.is_empty() && host.iter().all(name)
    };
    match hosts[..] {
        [] if !message.is_http_11() => Ok(()),
        [host] if sound(host) => Ok(()),
        _ => Err("not one Host"),
    }
}

fn framing(message: &Message) -> Parsed<Option<Framing>> {
    let (codings, lengths) = (
        message.all("transfer-encoding"),
        message.all("content-length"),
    );
    match (&codings[..], &lengths[..]) {
        ([], []) => Ok(None),
        ([], [length]) => {
            let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(length).ok().filter(|_| digits);
            let length = length.and_then(|length| length.parse().ok());
            Ok(Some(Framing::Length(length.ok_or("no length")?)))
        }
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") && message.is_http_11() => {
            Ok(Some(Framing::Chunked))
        }
        _ => Err("framing that can be read in two ways"),
    }
}

fn body(message: &mut Message, framing: Framing, bytes: &[u8], start: usize, ended: bool) -> Read {
    let rest = &bytes[start..];
    let size = match framing {
        Framing::Length(length) if rest.len() < length => return Read::Partial,
        Framing::Length(length) => {
            message.body = rest[..length].to_vec();
            length
        }
        Framing::Rest if !ended => return Read::Partial,
        Framing::Rest => {
            message.ends_connection = true;
            message.body = rest.to_vec();
            rest.len()
        }
        Framing::Chunked => match chunks(message, rest) {
            Ok(Some(size)) => size,
            Ok(None) => return Read::Partial,
            Err(why) => return Read::Malformed(why),
        },
    };
    Read::Whole(message.clone(), start + size)
}

fn chunks(message: &mut Message, bytes: &[u8]) -> Parsed<Option<usize>> {
    let mut at = 0;
    loop {
        let Some((line, next)) = line(bytes, at)? else {
            return Ok(None);
        };
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        if !(1..=16).contains(&digits) || !is_extension(&line[digits..]) {
            return Err("no chunk size");
        }
        let size = std::str::from_utf8(&line[..digits]).expect("digits are ASCII");
        let size = usize::from_str_radix(size, 16).map_err(|_| "no chunk size")?;
        if size == 0 {
            let Some((trailers, end)) = fields(bytes, next)? else {
                return Ok(None);
            };
            let forbidden = [
                "content-length",
                "transfer-encoding",
                "host",
                "authorization",
            ];
            if trailers
                .iter()
                .any(|(name, _)| forbidden.contains(&name.as_str()))
            {
                return Err("a trailer that must not be one");
            }
            message.trailers = trailers;
            return Ok(Some(end));
        }
        let end = next.checked_add(size).ok_or("no chunk size")?;
        match bytes.get(end..) {
            Some([b'\r', b'\n', ..]) => {}
            Some([b'\r'] | []) | None => return Ok(None),
            Some(_) => return Err("a chunk that is longer than its size"),
        }
        message.body.extend_from_slice(&bytes[next..end]);
        at = end + 2;
    }
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`
fn is_extension(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(after) = rest.trim_ascii_start().strip_prefix(b";") else {
            return false;
        };
        rest = after.trim_ascii_start();
        let name = rest.iter().take_while(|b| is_token(**b)).count();
        if name == 0 {
            return false;
        }
        rest = &rest[name..];
        let Some(after) = rest.trim_ascii_start().strip_prefix(b"=") else {
            continue;
        };
        rest = after.trim_ascii_start();
        let size = match rest.strip_prefix(b"\"") {
            None => rest.iter().take_while(|b| is_token(**b)).count(),
            Some(text) => match text.iter().position(|b| *b == b'"') {
                Some(end) if !text[..end].contains(&b'\\') => end + 2,
                _ => return false,
            },
        };
        if size == 0 {
            return false;
        }
        rest = &rest[size..];
    }
    true
}

pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[test]
fn the_parser_is_strict() {
    let whole = |read| matches!(read, Read::Whole(..));
    let bad = |read| matches!(read, Read::Malformed(_));
    let chunked = |body: &str| {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        request(format!("{head}{body}").as_bytes())
    };
    assert!(whole(chunked(
        "1;a=\"b\" ; c\r\nx\r\n0\r\nTrailer: y\r\n\r\n"
    )));
    for body in [
        "1 \r\nx\r\n0\r\n\r\n",
        "+1\r\nx\r\n0\r\n\r\n",
        "1;\r\nx\r\n0\r\n\r\n",
        "1;a=\"\r\nx\r\n0\r\n\r\n",
        "1\nx\r\n0\r\n\r\n",
        "1\r\nxy\r\n0\r\n\r\n",
        "0\r\nHost: a\r\n\r\n",
    ] {
        assert!(bad(chunked(body)), "{body:?}");
    }
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET x HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert!(bad(request(head.as_bytes())), "{head:?}");
    }
    assert!(whole(request(b"GET / HTTP/1.0\r\n\r\n")));
    assert!(whole(answer(
        b"HTTP/1.1 103 X\r\n\r\nHTTP/1.1 204 X\r\n\r\n",
        false,
        false
    )));
    assert!(matches!(
        answer(b"HTTP/1.1 200 X\r\n\r\nrest", false, false),
        Read::Partial
    ));
    assert!(bad(answer(b"HTTP/1.1 200\r\n\r\n", false, true)));
}
