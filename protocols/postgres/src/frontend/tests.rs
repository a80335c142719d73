//! A message per test, then what is wrong with each.

use super::*;
use crate::frame;
use proptest::prelude::*;

fn written(write: impl FnOnce(&mut Vec<u8>) -> Result<(), WriteError>) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    out
}

fn decoded(bytes: &[u8]) -> Frontend<'_> {
    let (header, body) = frame::split(bytes, 1 << 30).unwrap().unwrap();
    assert_eq!(header.len, bytes.len());
    let message = Frontend::decode(header.tag, body).unwrap();
    assert_eq!(message.tag(), header.tag);
    assert_eq!(
        written(|out| message.encode(out)),
        bytes,
        "decoded and written anew"
    );
    message
}

/// Every message once, with everything in it.
fn samples() -> Vec<Vec<u8>> {
    let values: [Option<&[u8]>; 3] = [Some(b"12"), None, Some(b"")];
    let mut function_call = Vec::new();
    write::message(&mut function_call, b'F', |out| {
        out.extend_from_slice(&715u32.to_be_bytes());
        out.extend_from_slice(b"\0\x01\0\x01\0\x01\0\0\0\x02ab\0\x01");
        Ok(())
    })
    .unwrap();
    vec![
        written(|out| write::bind(out, b"p", b"s", &[0, 1, 0], values.into_iter(), &[1])),
        written(|out| write::close(out, Kind::Portal, b"p")),
        written(|out| write::copy_data(out, b"1\t2\n")),
        b"c\0\0\0\x04".to_vec(),
        written(|out| write::copy_fail(out, b"why")),
        written(|out| write::describe(out, Kind::Statement, b"")),
        written(|out| write::execute(out, b"p", 17)),
        b"H\0\0\0\x04".to_vec(),
        function_call,
        written(|out| write::parse(out, b"s", b"select $1", &[23, 0])),
        written(|out| write::password(out, b"secret")),
        written(|out| write::query(out, b"select 1")),
        b"S\0\0\0\x04".to_vec(),
        b"X\0\0\0\x04".to_vec(),
    ]
}

#[test]
fn a_query_is_its_text() {
    assert_eq!(
        decoded(&written(|out| write::query(out, b"select 1; drop table t"))),
        Frontend::Query(Query {
            text: b"select 1; drop table t"
        })
    );
}

#[test]
fn a_parse_has_its_name_text_and_types() {
    let bytes = written(|out| write::parse(out, b"s", b"select $1", &[23, 0]));
    let Frontend::Parse(parse) = decoded(&bytes) else {
        panic!()
    };
    assert_eq!((parse.name, parse.text), (&b"s"[..], &b"select $1"[..]));
    assert_eq!(parse.types().collect::<Vec<_>>(), [23, 0]);
}

#[test]
fn a_bind_tells_null_from_empty_and_its_formats() {
    let values: [Option<&[u8]>; 3] = [Some(b"12"), None, Some(b"")];
    let bytes = written(|out| write::bind(out, b"p", b"s", &[0, 1, 0], values.into_iter(), &[1]));
    let Frontend::Bind(bind) = decoded(&bytes) else {
        panic!()
    };
    assert_eq!((bind.portal, bind.statement), (&b"p"[..], &b"s"[..]));
    assert_eq!(bind.parameters().collect::<Vec<_>>(), values);
    assert_eq!([0, 1, 2].map(|i| bind.parameter_format(i)), [0, 1, 0]);
    assert_eq!(
        [0, 1, 99].map(|i| bind.result_format(i)),
        [1, 1, 1],
        "one code is for all"
    );
    let bytes = written(|out| write::bind(out, b"", b"", &[], values.into_iter(), &[0, 1]));
    let Frontend::Bind(bind) = decoded(&bytes) else {
        panic!()
    };
    assert_eq!(
        [0, 1, 2].map(|i| bind.parameter_format(i)),
        [0, 0, 0],
        "no code is text"
    );
    assert_eq!([0, 1].map(|i| bind.result_format(i)), [0, 1]);
}

#[test]
fn the_smaller_messages_read_back() {
    for bytes in samples() {
        decoded(&bytes);
    }
    let bytes = written(|out| write::execute(out, b"p", -1));
    assert_eq!(
        decoded(&bytes),
        Frontend::Execute(Execute {
            portal: b"p",
            max_rows: -1
        })
    );
    let bytes = written(|out| write::close(out, Kind::Portal, b"p"));
    assert_eq!(
        decoded(&bytes),
        Frontend::Close {
            kind: Kind::Portal,
            name: b"p"
        }
    );
}

#[test]
fn the_list_of_known_tags_and_the_decoder_agree() {
    let sampled: Vec<u8> = samples().iter().map(|bytes| bytes[0]).collect();
    for tag in 0..=255u8 {
        let unknown = matches!(
            Frontend::decode(tag, &[]),
            Err(PeerMisbehaved::UnknownMessage { .. })
        );
        assert_eq!(Frontend::is_known(tag), !unknown, "{}", char::from(tag));
        assert_eq!(
            Frontend::is_known(tag),
            sampled.contains(&tag),
            "{} has no sample",
            char::from(tag)
        );
    }
}

#[test]
fn one_byte_more_or_less_is_an_error_in_every_message() {
    for bytes in samples() {
        let (tag, body) = (bytes[0], &bytes[5..]);
        // CopyData and the password's message are all body.
        if tag == b'd' || tag == b'p' {
            continue;
        }
        for cut in 0..body.len() {
            assert!(
                Frontend::decode(tag, &body[..cut]).is_err(),
                "{} cut at {cut}",
                char::from(tag)
            );
        }
        // Of these the server does not read what stands behind.
        if matches!(tag, b'c' | b'f' | b'X') {
            let longer = [body, &b"\0more"[..]].concat();
            let mut again = Vec::new();
            Frontend::decode(tag, &longer)
                .unwrap()
                .encode(&mut again)
                .unwrap();
            assert_eq!(again, bytes, "{} is written without it", char::from(tag));
            continue;
        }
        for extra in [0, b'Q'] {
            let longer = [body, &[extra]].concat();
            assert!(
                Frontend::decode(tag, &longer).is_err(),
                "{} with a byte more",
                char::from(tag)
            );
        }
    }
}

#[test]
fn counts_that_do_not_fit_a_bind_are_an_error() {
    let head = b"p\0s\0";
    for tail in [
        &b"\0\0\xff\xff\0\0"[..],                    // 65535 parameters, no bytes
        b"\0\0\0\x01\xff\xff\xff\xfe\0\0",           // a value of -2 bytes
        b"\0\0\0\x01\x7f\xff\xff\xff\0\0",           // a value beyond the message
        b"\0\0\0\x01\xff\xff\xff\xff\xff\xff",       // 65535 result formats
        b"\xff\xff\0\x01",                           // 65535 parameter formats
        b"\0\x02\0\0\0\0\0\x01\xff\xff\xff\xff\0\0", // two formats, one parameter
        b"\0\x01\0\x02\0\x01\xff\xff\xff\xff\0\0",   // format 2
    ] {
        assert!(
            Frontend::decode(b'B', &[head, tail].concat()).is_err(),
            "{tail:?}"
        );
    }
    assert!(Frontend::decode(b'D', b"X\0").is_err());
    // A code that no value uses, and those of results, are for the server to judge.
    assert!(Frontend::decode(b'B', b"p\0s\0\0\x01\0\x07\0\0\0\x01\0\x07").is_ok());
    assert!(Frontend::decode(b'P', b"s\0select\0\xff\xff").is_err());
}

#[test]
fn a_text_with_a_second_end_is_not_two_texts() {
    let error = Frontend::decode(b'Q', b"select 1\0drop table t\0").unwrap_err();
    assert_eq!(
        error,
        PeerMisbehaved::Flawed {
            message: "Query",
            flaw: Flaw::Trailing
        }
    );
    assert_eq!(error.flaw(), Some(Flaw::Trailing));
    assert_eq!(
        Frontend::decode(b'z', b"").unwrap_err().flaw(),
        None,
        "an unknown message ends the session"
    );
}

proptest! {
    #[test]
    fn whatever_decodes_is_written_as_the_same_bytes(tag in prop::sample::select(&b"BCDEFPQSHXdcfp"[..]), body in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(message) = Frontend::decode(tag, &body) {
            let mut out = Vec::new();
            message.encode(&mut out).unwrap();
            prop_assert_eq!(out[0], tag);
            prop_assert_eq!(Frontend::decode(tag, &out[5..]), Ok(message));
            prop_assert!(matches!(tag, b'c' | b'f' | b'X') || out[5..] == body[..]);
        }
    }

    #[test]
    fn a_written_bind_reads_back(
        portal in "[^\0]{0,8}", statement in "[^\0]{0,8}",
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), 0..9),
        formats in prop::collection::vec(0u16..2, 0..9),
    ) {
        let same = formats.len() < 2 || formats.len() == values.len();
        let mut out = Vec::new();
        write::bind(&mut out, portal.as_bytes(), statement.as_bytes(), &formats, values.iter().map(Option::as_deref), &formats).unwrap();
        let (header, body) = frame::split(&out, 1 << 20).unwrap().unwrap();
        match Frontend::decode(header.tag, body) {
            Ok(Frontend::Bind(bind)) => {
                prop_assert!(same);
                prop_assert_eq!(bind.portal, portal.as_bytes());
                prop_assert_eq!(bind.statement, statement.as_bytes());
                prop_assert_eq!(bind.parameters().map(|v| v.map(<[u8]>::to_vec)).collect::<Vec<_>>(), values);
                prop_assert_eq!(bind.result_formats().iter().collect::<Vec<_>>(), formats);
            }
            Ok(_) => prop_assert!(false),
            Err(_) => prop_assert!(!same),
        }
    }
}
