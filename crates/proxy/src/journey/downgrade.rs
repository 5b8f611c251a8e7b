//! The head of an HTTP/2 request, made what the same request over HTTP/1.1 has: all steps go by that.

use http::{HeaderValue, Uri, header, request::Parts, uri::Scheme};

use crate::fault::Fault;

/// Puts the address into `Host` and the crumbs of cookies into one `Cookie`; a body without a length comes in chunks. The
/// version stays, for `Via`.
///
/// # Errors
/// `bad_request` where `Host` contradicts `:authority`, `:scheme` claims a TLS that there is none of, or a value begins or
/// ends with a blank, which the next reader would take off.
pub fn as_http1(head: &mut Parts, has_body: bool, is_tls: bool) -> Result<(), Fault> {
    let is_trimmed = |value: &HeaderValue| value.as_bytes().trim_ascii() == value.as_bytes();
    if !head.headers.values().all(is_trimmed) {
        return Err(Fault::BadRequest);
    }
    if head.uri.scheme() == Some(&Scheme::HTTPS) && !is_tls {
        return Err(Fault::BadRequest);
    }
    if let Some(authority) = head.uri.authority() {
        let same = |host: &HeaderValue| {
            host.as_bytes()
                .eq_ignore_ascii_case(authority.as_str().as_bytes())
        };
        if !head.headers.get_all(header::HOST).iter().all(same) {
            return Err(Fault::BadRequest);
        }
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Fault::BadRequest)?;
        head.headers.insert(header::HOST, host);
    }
    if let Some(target) = head.uri.path_and_query().cloned() {
        head.uri = Uri::from(target);
    }
    let crumbs = head.headers.get_all(header::COOKIE);
    if crumbs.iter().nth(1).is_some() {
        let crumbs: Vec<&[u8]> = crumbs.iter().map(HeaderValue::as_bytes).collect();
        let cookie = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]));
        let cookie = cookie.map_err(|_| Fault::BadRequest)?;
        head.headers.insert(header::COOKIE, cookie);
    }
    if has_body && !head.headers.contains_key(header::CONTENT_LENGTH) {
        let chunked = HeaderValue::from_static("chunked");
        head.headers.insert(header::TRANSFER_ENCODING, chunked);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::{Request, Version};

    use super::*;

    fn over_http1(uri: &str, headers: &[(&str, &str)], body: bool) -> Result<Parts, Fault> {
        let mut request = Request::get(uri).version(Version::HTTP_2);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut head = request.body(()).unwrap().into_parts().0;
        as_http1(&mut head, body, false)?;
        Ok(head)
    }

    #[test]
    fn an_http2_head_says_the_same_over_http1() {
        let crumbs = [("cookie", "a=1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")];
        let head = over_http1("http://LocalHost:8080/a?b", &crumbs, true).unwrap();
        assert_eq!(
            (head.uri.to_string(), head.version),
            ("/a?b".into(), Version::HTTP_2)
        );
        assert_eq!(head.headers[header::HOST], "LocalHost:8080");
        assert_eq!(head.headers[header::COOKIE], "a=1; b=2; c=3; d=4");
        assert_eq!(head.headers[header::TRANSFER_ENCODING], "chunked");
        for (headers, body) in [(&[][..], false), (&[("content-length", "3")], true)] {
            let head = over_http1("http://localhost/", headers, body).unwrap();
            assert!(!head.headers.contains_key(header::TRANSFER_ENCODING));
        }
        let same = over_http1("http://localhost/", &[("host", "LOCALHOST")], false);
        assert_eq!(
            same.unwrap().headers.get_all(header::HOST).iter().count(),
            1
        );
        for bad in [
            &[("host", "elsewhere")][..],
            &[("host", "localhost"), ("host", "elsewhere")],
            &[("x-a", "b ")],
            &[("x-a", "\tb")],
        ] {
            let refused = over_http1("http://localhost/", bad, false);
            assert_eq!(refused.unwrap_err(), Fault::BadRequest, "{bad:?}");
        }
    }

    #[test]
    fn a_scheme_that_the_listener_does_not_speak_is_refused() {
        let refused = over_http1("https://localhost/", &[], false);
        assert_eq!(refused.unwrap_err(), Fault::BadRequest);
        let mut head = Request::get("https://localhost/")
            .body(())
            .unwrap()
            .into_parts()
            .0;
        assert_eq!(as_http1(&mut head, false, true), Ok(()));
    }
}
