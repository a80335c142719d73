//! Every message of a client with something wrong in it, at a real PostgreSQL and at the decoder: what the server answers with
//! an ERROR the decoder names by the same SQLSTATE and words, and what ends the session there ends it here.
//!
//! `malformed.out` is what PostgreSQL 15 answers, one row a message.

mod real;

use headgate_postgres::backend::{Backend, is_known};
use headgate_postgres::frontend::{Frontend, skips_to_sync};
use headgate_postgres::{PeerMisbehaved, frame};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn message(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut out = vec![tag];
    out.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    out.extend_from_slice(&body);
    out
}

/// A 16-bit field.
fn h(value: i16) -> [u8; 2] {
    value.to_be_bytes()
}

/// A length and the bytes; `None` is NULL.
fn values(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        out.extend_from_slice(
            &value
                .map_or(-1, |v| i32::try_from(v.len()).unwrap())
                .to_be_bytes(),
        );
        out.extend_from_slice(value.unwrap_or_default());
    }
    out
}

fn formats(codes: &[i16]) -> Vec<u8> {
    let mut out = h(i16::try_from(codes.len()).unwrap()).to_vec();
    codes.iter().for_each(|code| out.extend_from_slice(&h(*code)));
    out
}

/// Of the statement `s`, which has two parameters.
fn bind(parameter_formats: &[i16], given: &[Option<&[u8]>], result_formats: &[i16], more: &[u8]) -> Vec<u8> {
    let count = h(i16::try_from(given.len()).unwrap());
    message(
        b'B',
        &[
            b"\0s\0",
            &formats(parameter_formats),
            &count,
            &values(given),
            &formats(result_formats),
            more,
        ],
    )
}

/// `abs(integer)`.
const ABS: u32 = 1397;

fn call(oid: u32, argument_formats: &[i16], arguments: &[Option<&[u8]>], result: &[u8]) -> Vec<u8> {
    let count = h(i16::try_from(arguments.len()).unwrap());
    message(
        b'F',
        &[
            &oid.to_be_bytes(),
            &formats(argument_formats),
            &count,
            &values(arguments),
            result,
        ],
    )
}

const GOOD: [Option<&[u8]>; 2] = [Some(b"1"), Some(b"x")];

/// By name. Each comes alone, on a connection that has the statements `s` (two parameters) and `t` (none).
fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let null: [Option<&[u8]>; 2] = [None, None];
    let m = message;
    let mut cases = vec![
        ("Query, no zero", m(b'Q', &[b"select 1"])),
        ("Query, empty", m(b'Q', &[])),
        ("Query, a byte more", m(b'Q', &[b"select 1\0x"])),
        ("Query, a second text", m(b'Q', &[b"select 1\0select 2\0"])),
        (
            "Query, not UTF-8 and a byte more",
            m(b'Q', &[b"select '\xff'\0x"]),
        ),
        ("Parse, empty", m(b'P', &[])),
        ("Parse, no text", m(b'P', &[b"n\0"])),
        ("Parse, text without zero", m(b'P', &[b"n\0select 1"])),
        ("Parse, no count", m(b'P', &[b"n\0select 1\0"])),
        ("Parse, half a count", m(b'P', &[b"n\0select 1\0\0"])),
        (
            "Parse, half a type",
            m(b'P', &[b"n\0select 1\0", &h(1), b"\0\0\0"]),
        ),
        ("Parse, count -1", m(b'P', &[b"n\0select 1\0", &h(-1)])),
        ("Parse, a byte more", m(b'P', &[b"n\0select 1\0", &h(0), b"x"])),
        (
            "Parse, a byte more behind a wrong text",
            m(b'P', &[b"n\0selec\0", &h(0), b"x"]),
        ),
        ("Bind, empty", m(b'B', &[])),
        ("Bind, portal without zero", m(b'B', &[b"p"])),
        ("Bind, no statement", m(b'B', &[b"\0"])),
        ("Bind, no formats", m(b'B', &[b"\0s\0"])),
        (
            "Bind, fewer formats than counted",
            m(b'B', &[b"\0s\0", &h(2), &h(0)]),
        ),
        (
            "Bind, format count -1",
            m(b'B', &[b"\0s\0", &h(-1), &h(0), &h(0)]),
        ),
        ("Bind, no parameter count", m(b'B', &[b"\0s\0", &h(0)])),
        (
            "Bind, parameter count -1",
            m(b'B', &[b"\0s\0", &h(0), &h(-1), &h(0)]),
        ),
        (
            "Bind, a value that is cut",
            m(b'B', &[b"\0s\0", &h(0), &h(2), &5i32.to_be_bytes(), b"1"]),
        ),
        (
            "Bind, a value of -2 bytes",
            m(
                b'B',
                &[
                    b"\0s\0",
                    &h(0),
                    &h(2),
                    &(-2i32).to_be_bytes(),
                    &values(&[None]),
                    &h(0),
                ],
            ),
        ),
        (
            "Bind, a value of 2 GiB",
            m(
                b'B',
                &[
                    b"\0s\0",
                    &h(0),
                    &h(2),
                    &i32::MAX.to_be_bytes(),
                    &values(&[None]),
                    &h(0),
                ],
            ),
        ),
        (
            "Bind, no result formats",
            m(b'B', &[b"\0s\0", &h(0), &h(2), &values(&GOOD)]),
        ),
        (
            "Bind, fewer result formats than counted",
            m(b'B', &[b"\0s\0", &h(0), &h(2), &values(&GOOD), &h(1)]),
        ),
        (
            "Bind, result format count -1",
            m(b'B', &[b"\0s\0", &h(0), &h(2), &values(&GOOD), &h(-1)]),
        ),
        ("Bind, a byte more", bind(&[], &GOOD, &[], b"x")),
        ("Bind, format 7", bind(&[7], &GOOD, &[], b"")),
        ("Bind, formats 0 and 7", bind(&[0, 7], &GOOD, &[], b"")),
        ("Bind, format -1", bind(&[-1], &GOOD, &[], b"")),
        ("Bind, format 7 of NULL", bind(&[7], &null, &[], b"")),
        ("Bind, format 7 and a byte more", bind(&[7], &GOOD, &[], b"x")),
        (
            "Bind, format 7 of no parameter",
            m(b'B', &[b"\0t\0", &formats(&[7]), &h(0), &h(0)]),
        ),
        ("Bind, result format 7", bind(&[], &GOOD, &[7], b"")),
        ("Bind, three formats for two", bind(&[0, 0, 0], &GOOD, &[], b"")),
        (
            "Bind, two formats for one",
            bind(&[0, 0], &[Some(b"1")], &[], b""),
        ),
        ("Bind, one parameter of two", bind(&[], &[Some(b"1")], &[], b"")),
        (
            "Bind, three result formats for two columns",
            bind(&[], &GOOD, &[0, 0, 0], b""),
        ),
        (
            "Bind, no such statement and a byte more",
            m(b'B', &[b"\0zz\0", &h(0), &h(0), &h(0), b"x"]),
        ),
        ("Execute, empty", m(b'E', &[])),
        ("Execute, portal without zero", m(b'E', &[b"p"])),
        ("Execute, no limit", m(b'E', &[b"\0"])),
        ("Execute, half a limit", m(b'E', &[b"\0\0\0"])),
        ("Execute, a byte more", m(b'E', &[b"\0\0\0\0\0x"])),
        ("Flush, a byte more", m(b'H', &[b"x"])),
        ("Sync, a byte more", m(b'S', &[b"x"])),
        ("Terminate, a byte more", m(b'X', &[b"x"])),
        ("CopyData outside COPY", m(b'd', &[b"x"])),
        ("CopyDone outside COPY, a byte more", m(b'c', &[b"x"])),
        ("CopyFail outside COPY, no zero", m(b'f', &[b"x"])),
        ("CopyFail outside COPY, a byte more", m(b'f', &[b"x\0y"])),
        ("FunctionCall, empty", m(b'F', &[])),
        ("FunctionCall, no formats", m(b'F', &[&ABS.to_be_bytes()])),
        (
            "FunctionCall, no result format",
            call(ABS, &[], &[Some(b"-1")], b""),
        ),
        (
            "FunctionCall, a byte more",
            call(ABS, &[], &[Some(b"-1")], b"\0\0x"),
        ),
        ("FunctionCall, format 7", call(ABS, &[7], &[Some(b"-1")], &h(0))),
        (
            "FunctionCall, result format 7",
            call(ABS, &[], &[Some(b"-1")], &h(7)),
        ),
        (
            "FunctionCall, result format 7 and a byte more",
            call(ABS, &[], &[Some(b"-1")], b"\0\x07x"),
        ),
        (
            "FunctionCall, three formats for one",
            call(ABS, &[0, 0, 0], &[Some(b"-1")], &h(0)),
        ),
        (
            "FunctionCall, an argument of -2 bytes",
            m(
                b'F',
                &[&ABS.to_be_bytes(), &h(0), &h(1), &(-2i32).to_be_bytes(), &h(0)],
            ),
        ),
        (
            "FunctionCall, an argument that is cut",
            m(
                b'F',
                &[&ABS.to_be_bytes(), &h(0), &h(1), &9i32.to_be_bytes(), b"x"],
            ),
        ),
        (
            "FunctionCall, format count -1",
            m(
                b'F',
                &[&ABS.to_be_bytes(), &h(-1), &h(1), &values(&[Some(b"-1")]), &h(0)],
            ),
        ),
        (
            "FunctionCall, two arguments for one",
            call(ABS, &[], &[Some(b"-1"), Some(b"1")], &h(0)),
        ),
        (
            "FunctionCall, no such function and a byte more",
            call(999_999, &[], &[Some(b"-1")], b"\0\0x"),
        ),
        ("PasswordMessage in a session", m(b'p', &[b"x\0"])),
        ("tag 0", m(0, &[])),
        ("tag z", m(b'z', &[])),
        ("length 3", b"S\0\0\0\x03".to_vec()),
        ("length 0", b"Q\0\0\0\0".to_vec()),
        ("length -1", b"Q\xff\xff\xff\xff".to_vec()),
    ];
    for (tag, names) in [
        (
            b'D',
            [
                "Describe, empty",
                "Describe, kind alone",
                "Describe, no zero",
                "Describe, a byte more",
                "Describe, kind X",
                "Describe, kind X and a byte more",
                "Describe, kind 255",
            ],
        ),
        (
            b'C',
            [
                "Close, empty",
                "Close, kind alone",
                "Close, no zero",
                "Close, a byte more",
                "Close, kind X",
                "Close, kind X and a byte more",
                "Close, kind 255",
            ],
        ),
    ] {
        let bodies: [&[u8]; 7] = [b"", b"S", b"Ss", b"Ss\0x", b"Xs\0", b"Xs\0x", b"\xffs\0"];
        cases.extend(names.into_iter().zip(bodies.map(|body| m(tag, &[body]))));
    }
    cases
}

/// Where the server looks at something that only it knows before it comes to the flaw, or at nothing at all.
const SERVER_KNOWS_MORE: [(&str, &str); 6] = [
    (
        "Query, not UTF-8 and a byte more",
        "it looks at each text's encoding as it reads it; the judge does so behind the decoder",
    ),
    ("Bind, parameter count -1", "it knows how many the statement has"),
    (
        "Bind, no such statement and a byte more",
        "it looks for the statement first",
    ),
    (
        "FunctionCall, no such function and a byte more",
        "it looks for the function first",
    ),
    (
        "CopyFail outside COPY, no zero",
        "it passes over messages of COPY outside of it",
    ),
    (
        "PasswordMessage in a session",
        "the tag is one of a sign-in; the gate ends the session, too",
    ),
];

#[derive(Debug, PartialEq, Eq)]
enum After {
    /// Nothing but what was expected from a good message.
    GoesOn,
    /// ReadyForQuery came with the error.
    Ready,
    /// What follows is passed over until Sync, and then it lives.
    Skips,
    Closed,
}

struct Server {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Server {
    fn connect(postgres: &real::Postgres) -> Server {
        let mut server = Server {
            stream: real::connect(postgres),
            bytes: Vec::new(),
        };
        let mut hello = Vec::new();
        headgate_postgres::write::startup(&mut hello, 0, &[("user", "postgres"), ("database", "postgres")])
            .unwrap();
        hello.extend(message(b'P', &[b"s\0select $1::int, $2::text\0", &h(0)]));
        hello.extend(message(b'P', &[b"t\0select 1\0", &h(0)]));
        hello.extend(message(b'S', &[]));
        server.send(&hello);
        assert!(
            server.until_ready() && server.until_ready(),
            "the server is there"
        );
        server
    }

    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next message; `None`: it closed.
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((header, body)) = frame::split(&self.bytes, 1 << 20).unwrap() {
                let found = (header.tag, body.to_vec());
                self.bytes.drain(..header.len);
                assert!(
                    is_known(found.0) && Backend::decode(found.0, &found.1).is_ok(),
                    "what a server says is read"
                );
                return Some(found);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(n) if n > 0 => self.bytes.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("the server says nothing")
                }
                _ => return None,
            }
        }
    }

    fn until_ready(&mut self) -> bool {
        while let Some((tag, _)) = self.next() {
            if tag == b'Z' {
                return true;
            }
        }
        false
    }

    /// The error after what was sent, if any, and how it goes on. Two more questions tell: one that only a server answers which
    /// does not skip, and a Sync.
    fn judge(&mut self) -> (Option<[String; 3]>, After) {
        let mut probe = message(b'Q', &[b"select 'probe'\0"]);
        probe.extend(message(b'S', &[]));
        probe.extend(message(b'Q', &[b"select 'alive'\0"]));
        self.send(&probe);
        let (mut error, mut ready_before, mut probed, mut alive) = (None, false, false, false);
        let mut readies = 0;
        while !alive || readies == 0 {
            let Some((tag, body)) = self.next() else {
                return (error, After::Closed);
            };
            match tag {
                b'E' if error.is_none() => {
                    let Ok(Backend::ErrorResponse(fields)) = Backend::decode(tag, &body) else {
                        panic!()
                    };
                    error = Some(
                        [b'S', b'C', b'M']
                            .map(|code| String::from_utf8_lossy(fields.get(code).unwrap()).into_owned()),
                    );
                }
                b'Z' => {
                    ready_before |= error.is_some() && !probed;
                    readies += 1;
                }
                b'D' => {
                    probed |= body.ends_with(b"probe");
                    alive |= body.ends_with(b"alive");
                }
                _ => {}
            }
        }
        let after = match (&error, probed) {
            (None, _) => After::GoesOn,
            (Some(_), true) => {
                assert!(ready_before);
                After::Ready
            }
            (Some(_), false) => After::Skips,
        };
        (error, after)
    }
}

/// What the decoder says of the same bytes, in the same words.
fn decoder(bytes: &[u8]) -> (Option<[String; 3]>, After) {
    let fatal = |error: &PeerMisbehaved| {
        let (code, words) = error.to_client();
        (
            Some(["FATAL".to_owned(), code.to_owned(), words.to_owned()]),
            After::Closed,
        )
    };
    let (header, body) = match frame::split(bytes, 1 << 20) {
        Ok(Some(found)) => found,
        Ok(None) => panic!("a case is whole"),
        Err(error) => return fatal(&error),
    };
    match Frontend::decode(header.tag, body) {
        Ok(Frontend::Terminate) => (None, After::Closed),
        Ok(_) => (None, After::GoesOn),
        Err(error) => match error.flaw() {
            Some(flaw) => {
                let after = if skips_to_sync(header.tag) {
                    After::Skips
                } else {
                    After::Ready
                };
                (
                    Some(["ERROR".to_owned(), flaw.sqlstate().to_owned(), flaw.to_string()]),
                    after,
                )
            }
            None => fatal(&error),
        },
    }
}

#[test]
fn a_message_with_a_flaw_is_answered_as_the_server_answers_it() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let postgres = real::start(
        "local all all trust\nhost all all 127.0.0.1/32 trust\n",
        &made.cert.pem(),
        &made.signing_key.serialize_pem(),
    );
    let mut table = String::new();
    let mut differ = Vec::new();
    for (name, bytes) in cases() {
        let mut server = Server::connect(&postgres);
        server
            .stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        server.send(&bytes);
        let (error, after) = server.judge();
        let said = error.as_ref().map_or("-".to_owned(), |words| words.join(" "));
        table.push_str(&format!("{name} | {said} | {after:?}\n"));
        let ours = decoder(&bytes);
        let same = match (&ours.0, &error) {
            // Passed on: the server's answer is the answer.
            (None, _) if ours.1 == After::GoesOn => after != After::Closed,
            // Where the frame is lost PostgreSQL says a word or none; it ends in any case.
            (Some([severity, ..]), _) if severity == "FATAL" => {
                after == After::Closed && ours.1 == After::Closed
            }
            (ours_said, _) => ours_said == &error && ours.1 == after,
        };
        if !same {
            differ.push((name, format!("{ours:?} here, {error:?} {after:?} there")));
        }
    }
    let listed: Vec<&str> = SERVER_KNOWS_MORE.iter().map(|(name, _)| *name).collect();
    let unlisted: Vec<_> = differ.iter().filter(|(name, _)| !listed.contains(name)).collect();
    assert!(unlisted.is_empty(), "{unlisted:#?}");
    for name in listed {
        assert!(
            differ.iter().any(|(found, _)| *found == name),
            "{name} does not differ any more: take it off the list"
        );
    }
    assert!(
        table == include_str!("malformed.out"),
        "if that is meant, tests/malformed.out becomes:\n{table}"
    );
}

/// What wraps: a statement with more parameters than ParameterDescription can count.
#[test]
fn a_statement_of_65536_parameters_is_described_by_all_its_types() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let postgres = real::start(
        "local all all trust\nhost all all 127.0.0.1/32 trust\n",
        &made.cert.pem(),
        &made.signing_key.serialize_pem(),
    );
    for count in [65_535, 65_536, 65_537, 131_072] {
        let list: Vec<String> = (1..=count).map(|n| format!("${n}::int")).collect();
        let text = format!("select array[{}]\0", list.join(","));
        let mut server = Server::connect(&postgres);
        server.send(
            &[
                message(b'P', &[b"\0", text.as_bytes(), &h(0)]),
                message(b'D', &[b"S\0"]),
                message(b'S', &[]),
            ]
            .concat(),
        );
        let mut described = None;
        loop {
            let (tag, body) = server.next().expect("the session lives");
            match tag {
                b't' => {
                    let Ok(Backend::ParameterDescription(oids)) = Backend::decode(tag, &body) else {
                        panic!("{count}")
                    };
                    assert_eq!(u16::from_be_bytes([body[0], body[1]]), (count & 0xffff) as u16);
                    assert!(oids.iter().all(|oid| oid == 23));
                    described = Some(oids.iter().len());
                }
                b'E' => panic!("{}", String::from_utf8_lossy(&body)),
                b'Z' => break,
                _ => {}
            }
        }
        assert_eq!(described, Some(count));
    }
    for wrong in [
        &b"\0\x01\0\0\0"[..],
        b"\0\x01",
        b"\0\0\0\0\0\x17",
        b"\0\x02\0\0\0\x17",
        b"\0",
    ] {
        assert!(Backend::decode(b't', wrong).is_err(), "{wrong:?}");
    }
}
