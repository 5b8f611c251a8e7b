//! Over HTTP/2 the credential is a literal that nobody on the way may put into a compression table (RFC 7541, 7.1):
//! what is in a table can be guessed at by the size of what follows.

use std::{
    io::{Read as _, Write as _},
    sync::mpsc,
};

use crate::{
    client::PATIENCE,
    frames::{END_HEADERS, END_STREAM, HEADERS, SETTINGS, frame},
    proxy::World,
    scripted::{in_front_of, scripted},
};

#[test]
fn each_request_carries_it_as_a_literal_that_is_never_indexed() {
    let world = World::new();
    let (blocks, seen) = mpsc::channel();
    let upstream = scripted(move |stream, _preface| {
        // The rest of the preface.
        let mut rest = [0; 6];
        stream.read_exact(&mut rest).unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, b"")).unwrap();
        let mut number = 1;
        let mut head = [0; 9];
        while stream.read_exact(&mut head).is_ok() {
            let [a, b, c, kind, flags, ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            stream.read_exact(&mut payload).unwrap();
            if kind == HEADERS {
                assert_eq!(flags, END_HEADERS | END_STREAM, "neither padded nor cut");
                blocks.send(payload).unwrap();
                let answer = frame(HEADERS, END_HEADERS | END_STREAM, number, &[STATUS_200]);
                stream.write_all(&answer).unwrap();
                number += 2;
            }
        }
    });
    let proxy = in_front_of(&world, upstream, "protocol = 'http2'", "");
    proxy.ready();
    for _ in 0..3 {
        assert_eq!(proxy.get("/", &["X-Of-The-Client: x"]).status, 200);
        let fields = fields(&seen.recv_timeout(PATIENCE).unwrap());
        let never: Vec<_> = (fields.iter())
            .filter(|(kind, _)| *kind == Kind::NeverIndexed)
            .collect();
        // With its name: it must not have got into the table either.
        let longer_than = world.simulator.license_token().len() / 2;
        assert!(
            matches!(never[..], [(_, length)] if *length > longer_than),
            "{fields:?}"
        );
    }
    world.end(proxy);
}

#[derive(Debug, PartialEq)]
enum Kind {
    InTable,
    Indexed,
    NotIndexed,
    NeverIndexed,
}

/// The fields of a header block, with the length of what each has in letters.
fn fields(mut block: &[u8]) -> Vec<(Kind, usize)> {
    let mut fields = Vec::new();
    while let Some(first) = block.first() {
        let (kind, bits) = match first.leading_zeros() {
            0 => (Kind::InTable, 7),
            1 => (Kind::Indexed, 6),
            2 => {
                // The size of the table.
                number(&mut block, 5);
                continue;
            }
            3 => (Kind::NeverIndexed, 4),
            _ => (Kind::NotIndexed, 4),
        };
        let name = number(&mut block, bits);
        let texts = match (&kind, name) {
            (Kind::InTable, _) => 0,
            (_, 0) => 2,
            _ => 1,
        };
        let mut length = 0;
        for _ in 0..texts {
            let text = number(&mut block, 7);
            length += text;
            block = &block[text..];
        }
        fields.push((kind, length));
    }
    fields
}

/// A number in the last bits of a byte, and those that follow (RFC 7541, 5.1).
fn number(block: &mut &[u8], bits: u32) -> usize {
    let mut next = || {
        let (first, rest) = block.split_first().unwrap();
        *block = rest;
        usize::from(*first)
    };
    let most = (1 << bits) - 1;
    let mut number = next() & most;
    if number == most {
        for shift in (0..).step_by(7) {
            let byte = next();
            number += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    number
}

/// `:status: 200`, of the table that everybody has.
const STATUS_200: u8 = 0x88;
