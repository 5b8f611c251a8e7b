//! A tunnel through an egress proxy, by `CONNECT` or by SOCKS 5.
//!
//! It is a tunnel for `http` servers too: a proxy that is asked for a URL reads all headers as a matter of course, and
//! may log and cache what it reads.

use std::{
    future::{Ready, ready},
    io,
    net::IpAddr,
    pin::pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::{client::legacy::connect::proxy::SocksV5, rt::TokioIo};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{net::TcpStream, select};
use tower_service::Service;

use super::egress::EgressError;

pub(super) async fn connect(
    tcp: TcpStream,
    target: &str,
    login: Option<HeaderValue>,
) -> Result<TcpStream, EgressError> {
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = target_uri(target);
    let host = HeaderValue::from_str(target).expect("an origin's host is a DNS name or an address");
    request.headers_mut().insert(header::HOST, host);
    if let Some(login) = login {
        request
            .headers_mut()
            .insert(header::PROXY_AUTHORIZATION, login);
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp))
        .await
        .map_err(EgressError::Broken)?;
    let mut answer = pin!(sender.send_request(request));
    let mut tunnel = pin!(connection.without_shutdown());
    let mut made = None;
    let answer = loop {
        select! {
            answer = &mut answer => break answer.map_err(EgressError::Broken)?,
            parts = &mut tunnel, if made.is_none() => made = Some(parts.map_err(EgressError::Broken)?),
        }
    };
    match answer.status() {
        // They end with their head, for hyper too, which would wait for the tunnel.
        status @ (StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) => {
            return Err(EgressError::Refused(status));
        }
        status if status.is_success() => {}
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => return Err(EgressError::Login),
        status => return Err(EgressError::Refused(status)),
    }
    let parts = match made {
        Some(parts) => parts,
        None => tunnel.await.map_err(EgressError::Broken)?,
    };
    // Neither TLS nor HTTP has a server that speaks first: what has been read besides is nothing that is missed.
    Ok(parts.io.into_inner())
}

/// `SocksV5` writes all that it sends behind one another into a buffer of fixed size, and says no more than that it
/// would overflow.
pub(super) fn fits_socks(
    host: &str,
    login: Option<&(String, SecretString)>,
) -> Result<(), EgressError> {
    let address = match host.parse() {
        Ok(IpAddr::V4(_)) => 4,
        Ok(IpAddr::V6(_)) => 16,
        Err(_) => 1 + host.len(),
    };
    let (username, password) = login.map_or((0, 0), |(username, password)| {
        #[expect(clippy::disallowed_methods, reason = "only its length is looked at")]
        let password = password.expose_secret().len();
        (username.len(), password)
    });
    let login = login.map_or(0, |_| 3 + username + password);
    let fits = username < 256 && password < 256 && 3 + login + 6 + address <= MOST_OF_SOCKS;
    fits.then_some(()).ok_or(EgressError::TooLong)
}

pub(super) async fn socks(
    tcp: TcpStream,
    target: &str,
    login: Option<(String, SecretString)>,
) -> Result<TcpStream, EgressError> {
    let target = target_uri(target);
    let mut socks = SocksV5::new(target.clone(), Connected(Some(tcp)));
    if let Some((username, password)) = login {
        #[expect(
            clippy::disallowed_methods,
            reason = "it is sent to the proxy it is for"
        )]
        let password = password.expose_secret().to_owned();
        socks = socks.with_auth(username, password);
    }
    match socks.call(target).await {
        Ok(stream) => Ok(stream.into_inner()),
        Err(error) => Err(EgressError::Socks(io::Error::other(format!(
            "{error}: {error:?}"
        )))),
    }
}

fn target_uri(target: &str) -> Uri {
    Uri::try_from(target).expect("a host and a port are an authority")
}

/// A connection that is there already, as what `SocksV5` asks for one.
struct Connected(Option<TcpStream>);

impl Service<Uri> for Connected {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<TcpStream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let tcp = self.0.take().ok_or(io::ErrorKind::NotConnected.into());
        ready(tcp.map(TokioIo::new))
    }
}

/// What `SocksV5` has room for, in bytes.
const MOST_OF_SOCKS: usize = 262;
