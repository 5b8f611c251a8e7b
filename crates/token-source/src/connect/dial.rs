//! A TCP connection to a name: both families in turn, and none waits long for another (RFC 8305).

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::timeout,
};

/// Connects to whichever address of the name answers first. The name is looked up anew each time.
pub(super) async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let found: Vec<_> = lookup_host((host, port)).await?.collect();
    let tcp = first(interleaved(found)).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// The families in turn, beginning with that of the first address; within each the order of the resolver.
pub(super) fn interleaved(found: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let Some(first) = found.first().copied() else {
        return VecDeque::new();
    };
    let (preferred, other): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|address| address.is_ipv6() == first.is_ipv6());
    let mut addresses = VecDeque::with_capacity(preferred.len() + other.len());
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    loop {
        match (preferred.next(), other.next()) {
            (None, None) => return addresses,
            (one, another) => addresses.extend(one.into_iter().chain(another)),
        }
    }
}

/// Begins with one address after the other, the next as soon as one has failed or [`STAGGER`] has passed; the first
/// connection ends all other attempts.
async fn first(mut addresses: VecDeque<SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut failure = io::ErrorKind::NotFound.into();
    loop {
        if let Some(address) = addresses.pop_front() {
            attempts.spawn(TcpStream::connect(address));
        }
        let patience = if addresses.is_empty() {
            Duration::MAX
        } else {
            STAGGER
        };
        match timeout(patience, attempts.join_next()).await {
            Ok(Some(Ok(Ok(tcp)))) => return Ok(tcp),
            Ok(Some(Ok(Err(error)))) => failure = error,
            Ok(Some(Err(lost))) => failure = io::Error::other(lost),
            Ok(None) if addresses.is_empty() => return Err(failure),
            // The next one's turn.
            Ok(None) | Err(_) => {}
        }
    }
}

/// As RFC 8305 recommends.
const STAGGER: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};
    use tokio::{
        net::TcpListener,
        time::{Instant, timeout},
    };

    use super::*;

    #[test]
    fn families_take_turns() {
        let addresses = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter().map(|one| one.parse().unwrap()).collect()
        };
        let found = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let order = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(interleaved(found), order);
        let found = addresses(&["1.1.1.1:1", "[::1]:1"]);
        assert_eq!(interleaved(found.clone()), found);
        assert!(interleaved(Vec::new()).is_empty());
    }

    /// An address at which a connection is neither accepted nor refused: its queue is full.
    fn hole() -> (SocketAddr, Socket, Vec<Socket>) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let fill = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
            socket
        };
        let filled = (0..4).map(|_| fill()).collect();
        (address.as_socket().unwrap(), listener, filled)
    }

    #[tokio::test]
    async fn an_address_that_says_nothing_takes_no_time_of_the_next() {
        let (hole, _listener, _filled) = hole();
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = (good.local_addr().unwrap(), good);
        let began = Instant::now();
        let connected = timeout(
            Duration::from_secs(20),
            first(VecDeque::from([hole, good.0])),
        );
        assert_eq!(
            connected.await.unwrap().unwrap().peer_addr().unwrap(),
            good.0
        );
        assert!(began.elapsed() >= STAGGER);
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_left_at_once_and_the_last_failure_is_told() {
        let closed = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = good.local_addr().unwrap();
        assert!(first(VecDeque::from([closed, address])).await.is_ok());
        let failed = first(VecDeque::from([closed, closed])).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::ConnectionRefused);
    }
}
