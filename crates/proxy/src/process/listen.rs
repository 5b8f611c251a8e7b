//! Sockets that listen: one per worker and address, so that a connection never changes thread.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::ListenAddress;

/// A socket that listens, in one worker's hands.
#[derive(Debug)]
pub enum Listening {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket; all workers accept from the same one.
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixListener),
}

/// The sockets of one listener.
#[derive(Debug)]
pub struct Bound {
    /// What it says in the log: addresses with the ports that were chosen, or the path.
    pub places: Vec<String>,
    /// For each worker, its sockets.
    pub per_worker: Vec<Vec<Listening>>,
}

/// Listens at an address, once for every worker.
///
/// # Errors
/// What the operating system says, a port in use above all.
pub fn listen(address: &ListenAddress, workers: usize) -> io::Result<Bound> {
    let mut bound = Bound {
        places: Vec::new(),
        per_worker: (0..workers).map(|_| Vec::new()).collect(),
    };
    match address {
        ListenAddress::Tcp(addresses) => {
            let mut port = 0;
            for address in addresses {
                // `localhost:0` is one port on both loopbacks.
                let mut address = *address;
                if address.port() == 0 {
                    address.set_port(port);
                }
                let sockets = match listen_tcp(address, workers) {
                    Ok(sockets) => sockets,
                    // A machine without IPv6 has one loopback only.
                    Err(error) if addresses.len() > 1 && is_without_address_family(&error) => {
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let local = sockets[0].local_addr()?;
                port = local.port();
                bound.places.push(local.to_string());
                for (worker, socket) in bound.per_worker.iter_mut().zip(sockets) {
                    worker.push(Listening::Tcp(socket));
                }
            }
            if bound.places.is_empty() {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
        }
        #[cfg(unix)]
        ListenAddress::Unix { path, mode, .. } => {
            let socket = listen_unix(path, *mode)?;
            for worker in &mut bound.per_worker {
                worker.push(Listening::Unix(socket.try_clone()?));
            }
            bound.places.push(format!("unix:{}", path.display()));
        }
        #[cfg(not(unix))]
        ListenAddress::Unix { .. } => return Err(io::ErrorKind::Unsupported.into()),
    }
    Ok(bound)
}

/// Whether there is no such address here, or not even its family.
fn is_without_address_family(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) {
        return true;
    }
    error.kind() == io::ErrorKind::AddrNotAvailable
}

/// The first socket is bound and listens before `SO_REUSEPORT` is set on it, so that a port in use is an error and
/// not a share of somebody else's connections; only then do our other workers join it.
fn listen_tcp(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    let first = tcp_socket(address)?;
    first.bind(&address.into())?;
    first.listen(BACKLOG)?;
    let mut sockets: Vec<TcpListener> = vec![first.into()];
    for _ in 1..workers {
        let socket = join(&sockets[0])?;
        sockets.push(socket);
    }
    Ok(sockets)
}

#[cfg(target_os = "linux")]
fn join(first: &TcpListener) -> io::Result<TcpListener> {
    let address = first.local_addr()?;
    socket2::SockRef::from(first).set_reuse_port(true)?;
    let socket = tcp_socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Elsewhere `SO_REUSEPORT` does not spread connections: all workers accept from the same socket.
#[cfg(not(target_os = "linux"))]
fn join(first: &TcpListener) -> io::Result<TcpListener> {
    first.try_clone()
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_loopback() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The file has its mode from its first moment on; what a dead process left behind is removed.
#[cfg(unix)]
fn listen_unix(path: &std::path::Path, mode: u32) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    };

    use rustix::{fs::Mode, process::umask};

    if std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?
            }
            _ => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
    // No other thread runs yet that could make a file with this mask.
    let before = umask(Mode::from_raw_mode(!mode & 0o777));
    let bound = UnixListener::bind(path);
    umask(before);
    let socket = bound?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// What nginx asks for; the kernel caps it.
const BACKLOG: i32 = 511;

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> ListenAddress {
        ListenAddress::Tcp(vec![address.parse().unwrap()])
    }

    #[test]
    fn a_port_in_use_is_an_error_though_workers_share_it() {
        let bound = listen(&tcp("127.0.0.1:0"), 3).unwrap();
        assert_eq!(bound.per_worker.len(), 3);
        let again = listen(&tcp(&bound.places[0]), 3).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_left_behind_is_replaced_and_a_live_one_is_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("listen-{}.sock", std::process::id()));
        let address = ListenAddress::Unix {
            path: path.clone(),
            mode: 0o600,
            uids: vec![],
            gids: vec![],
        };
        let bound = listen(&address, 2).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            listen(&address, 1).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        drop(bound);
        assert!(listen(&address, 1).is_ok());
        std::fs::remove_file(path).unwrap();
    }
}
