//! How a message says where its body ends: in one way that nobody can read as another.

use http::{HeaderValue, Version, header, response};

use super::survey::Survey;

/// How the end of a message's body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By so many bytes.
    Length(u64),
    /// By the last of its chunks.
    Chunked,
    /// Nothing is said: a request has no body, that of an answer ends with the connection.
    Unsaid,
}

/// Two readers may take it for different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unclear;

impl Framing {
    /// What the headers of a message say. `Transfer-Encoding` is exactly one `chunked` and not over HTTP/1.0, or there is
    /// one `Content-Length`, written in the one way, or neither.
    ///
    /// # Errors
    /// Whatever else they say.
    pub fn of(headers: Survey<'_>, version: Version) -> Result<Self, Unclear> {
        let coding = headers.only(&header::TRANSFER_ENCODING);
        let length = headers.only(&header::CONTENT_LENGTH);
        let (Ok(coding), Ok(length)) = (coding, length) else {
            return Err(Unclear);
        };
        match (coding, length) {
            (None, None) => Ok(Self::Unsaid),
            (None, Some(length)) => number(length).map(Self::Length).ok_or(Unclear),
            (Some(coding), None)
                if coding.as_bytes().eq_ignore_ascii_case(b"chunked")
                    && version > Version::HTTP_10 =>
            {
                Ok(Self::Chunked)
            }
            (Some(_), _) => Err(Unclear),
        }
    }

    /// The same of an answer, whose status must be below 600.
    ///
    /// # Errors
    /// When it is no answer that everybody reads alike.
    pub fn of_answer(head: &response::Parts, headers: Survey<'_>) -> Result<Self, Unclear> {
        match head.status.as_u16() {
            600.. => Err(Unclear),
            _ => Self::of(headers, head.version),
        }
    }
}

/// A number without a sign or a leading zero.
fn number(length: &HeaderValue) -> Option<u64> {
    let digits = match length.as_bytes() {
        [] | [b'0', _, ..] => return None,
        digits => digits,
    };
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    });
    number.filter(|number| *number <= LARGEST)
}

/// hyper means something else by the two numbers above it.
const LARGEST: u64 = u64::MAX - 2;

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn framing(
        version: Version,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Framing, Unclear> {
        let line = |(name, value): &(&'static str, &'static str)| {
            let name = http::HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().map(line) {
            map.append(name, value);
        }
        Framing::of(Survey::of(&map), version)
    }

    #[test]
    fn what_can_be_read_in_one_way_is() {
        let chunked = ("transfer-encoding", "Chunked");
        assert_eq!(framing(Version::HTTP_11, &[chunked]), Ok(Framing::Chunked));
        assert_eq!(framing(Version::HTTP_10, &[]), Ok(Framing::Unsaid));
        for (text, length) in [("0", 0), ("10", 10), ("18446744073709551613", LARGEST)] {
            let said = framing(Version::HTTP_10, &[("content-length", text)]);
            assert_eq!(said, Ok(Framing::Length(length)));
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let (coding, length) = ("transfer-encoding", "content-length");
        for headers in [
            &[(coding, "gzip, chunked")][..],
            &[(coding, "chunked"), (coding, "chunked")],
            &[(coding, "identity")],
            &[(coding, "chunked"), (length, "1")],
            &[(length, "1"), (length, "1")],
            &[(length, "1, 1")],
            &[(length, "")],
            &[(length, "01")],
            &[(length, "00")],
            &[(length, "+1")],
            &[(length, "-1")],
            &[(length, "0x1")],
            &[(length, "18446744073709551614")],
            &[(length, "18446744073709551616")],
        ] {
            assert_eq!(
                framing(Version::HTTP_11, headers),
                Err(Unclear),
                "{headers:?}"
            );
        }
        let chunked = [(coding, "chunked")];
        assert_eq!(framing(Version::HTTP_10, &chunked), Err(Unclear));
    }
}
