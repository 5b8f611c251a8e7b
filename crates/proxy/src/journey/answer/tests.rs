//! What becomes of a connection when its answer has ended.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::mpsc,
    thread,
};

use http::{Method, Request};
use token_source::connect;
use tokio::{
    net::TcpSocket,
    time::{sleep, timeout},
};

use super::{
    super::{
        forward::tests::with_pool,
        kept::{Kept, Memory},
        upload::Upload,
    },
    *,
};
use crate::config::Protocol;

/// More than the sockets hold.
const SIZE: usize = 8 << 20;

/// An upload of one piece.
fn upload() -> Upload {
    let mut kept = Kept::new(SIZE, Memory::new());
    assert!(kept.add(&vec![b'u'; SIZE]));
    Upload::with(Rc::default(), Some(kept))
}

#[test]
fn the_end_of_an_upload_goes_out_though_its_answer_has_ended() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (go_on, answer_has_ended) = mpsc::channel();
    let accepting = server.try_clone().unwrap();
    let upstream = thread::spawn(move || {
        let (mut stream, _) = accepting.accept().unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(answer).unwrap();
        answer_has_ended.recv().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        stream.read_exact(&mut vec![0; SIZE]).expect("all of it");
        stream
    });
    with_pool(&server, Protocol::Http1, async |pool| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(64 << 10).unwrap();
        let stream = socket.connect(server.local_addr().unwrap()).await.unwrap();
        let stream = connect::Connection::Plain(stream);
        let mut connection = Box::new(Connection::new(stream, pool.watch(), Rc::default(), false));
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = Method::POST;
        let (answer, _) = connection.ask(&head, upload()).await.unwrap();
        assert_eq!(answer.status, 200);
        let frame = poll_fn(|cx| connection.poll_frame(cx)).await;
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), "ok");
        assert!(connection.has_ended() && !connection.is_sent());
        Incoming::Alone(connection).put_back(pool);
        go_on.send(()).unwrap();
        let back = async {
            while pool.idle_count() == 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let back = timeout(Duration::from_secs(30), back).await;
        back.expect("the connection is used again");
    });
    upstream.join().unwrap();
}
