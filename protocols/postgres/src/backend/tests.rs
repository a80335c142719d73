//! A message per test, then what is wrong with each.

use super::*;
use crate::{frame, write};
use proptest::prelude::*;

fn written(write: impl FnOnce(&mut Vec<u8>) -> Result<(), headgate_wire::WriteError>) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    out
}

fn plain(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn decoded(bytes: &[u8]) -> Backend<'_> {
    let (header, body) = frame::split(bytes, 1 << 30).unwrap().unwrap();
    assert_eq!(header.len, bytes.len());
    Backend::decode(header.tag, body).unwrap()
}

const ID: Field<'static> = Field {
    name: b"id",
    table_oid: 16385,
    column: 1,
    type_oid: 23,
    type_size: 4,
    type_modifier: -1,
    format: 0,
};
const NAME: Field<'static> = Field {
    name: b"name",
    table_oid: 0,
    column: 0,
    type_oid: 25,
    type_size: -1,
    type_modifier: -1,
    format: 1,
};

fn samples() -> Vec<Vec<u8>> {
    let row: [Option<&[u8]>; 2] = [Some(b"1"), None];
    vec![
        plain(write::authentication_ok),
        plain(write::authentication_cleartext_password),
        plain(|out| write::authentication_md5_password(out, [1, 2, 3, 4])),
        written(|out| write::authentication_sasl(out, &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])),
        written(|out| write::backend_key_data(out, 7, &[9; 4])),
        plain(write::bind_complete),
        plain(write::close_complete),
        written(|out| write::command_complete(out, b"SELECT 1")),
        written(|out| write::copy_response(out, b'G', 0, &[0, 0])),
        written(|out| write::copy_response(out, b'H', 1, &[1])),
        written(|out| write::copy_response(out, b'W', 0, &[])),
        written(|out| write::copy_data(out, b"x")),
        plain(write::copy_done),
        written(|out| write::data_row(out, row.into_iter())),
        plain(write::empty_query_response),
        plain(|out| crate::Report::error("42501", "no").write_error(out)),
        plain(|out| crate::Report::notice("held").write_notice(out)),
        written(|out| write::function_call_response(out, Some(b"x"))),
        written(|out| write::negotiate_protocol_version(out, 2, &["_pq_.x"])),
        plain(write::no_data),
        written(|out| write::notification(out, 7, b"c", b"payload")),
        written(|out| write::parameter_description(out, &[23, 25])),
        written(|out| write::parameter_status(out, b"TimeZone", b"UTC")),
        plain(write::parse_complete),
        plain(write::portal_suspended),
        plain(|out| write::ready_for_query(out, TransactionStatus::Failed)),
        written(|out| write::row_description(out, [ID, NAME].into_iter())),
    ]
}

#[test]
fn a_row_description_and_its_rows_read_back() {
    let bytes = written(|out| write::row_description(out, [ID, NAME].into_iter()));
    let Backend::RowDescription(fields) = decoded(&bytes) else {
        panic!()
    };
    assert_eq!(fields.len(), 2);
    assert_eq!(fields.collect::<Vec<_>>(), [ID, NAME]);
    let row: [Option<&[u8]>; 3] = [Some(b"1"), None, Some(b"")];
    let bytes = written(|out| write::data_row(out, row.into_iter()));
    let Backend::DataRow(values) = decoded(&bytes) else {
        panic!()
    };
    assert_eq!(values.collect::<Vec<_>>(), row);
}

#[test]
fn authentication_in_all_its_kinds() {
    use Authentication as A;
    let kind = |bytes: &[u8]| match Backend::decode(b'R', bytes) {
        Ok(Backend::Authentication(A::Sasl(names))) => {
            format!("{:?}", names.map(String::from_utf8_lossy).collect::<Vec<_>>())
        }
        Ok(Backend::Authentication(other)) => format!("{other:?}"),
        other => format!("{other:?}"),
    };
    assert_eq!(kind(b"\0\0\0\0"), "Ok");
    assert_eq!(kind(b"\0\0\0\x03"), "CleartextPassword");
    assert_eq!(kind(b"\0\0\0\x05abcd"), "Md5Password { salt: [97, 98, 99, 100] }");
    assert_eq!(kind(b"\0\0\0\x0aA\0B\0\0"), r#"["A", "B"]"#);
    assert_eq!(kind(b"\0\0\0\x0a\0"), "[]");
    assert_eq!(kind(b"\0\0\0\x0bxy"), "SaslContinue([120, 121])");
    for wrong in [
        &b"\0\0\0\0x"[..],
        b"\0\0\0\x05abc",
        b"\0\0\0\x05abcde",
        b"\0\0\0\x0aA\0",
        b"\0\0\0\x0aA\0\0x",
        b"\0\0\0\x01",
        b"\0\0",
    ] {
        assert!(kind(wrong).starts_with("Err"), "{wrong:?}");
    }
}

#[test]
fn an_error_without_sqlstate_is_still_an_error() {
    let Ok(Backend::ErrorResponse(fields)) = Backend::decode(b'E', b"SERROR\0Moops\0Zfuture\0\0") else {
        panic!()
    };
    assert_eq!(fields.sqlstate(), None);
    assert_eq!(fields.message(), Some(&b"oops"[..]));
    assert_eq!(fields.count(), 3);
    let Ok(Backend::ErrorResponse(none)) = Backend::decode(b'E', b"\0") else {
        panic!()
    };
    assert_eq!(none.count(), 0);
    for wrong in [&b""[..], b"Moops\0", b"Moops", b"Moops\0\0x", b"\0\0"] {
        assert!(Backend::decode(b'E', wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_cancel_key_has_four_to_256_bytes() {
    for (len, fits) in [
        (0, false),
        (3, false),
        (4, true),
        (32, true),
        (256, true),
        (257, false),
    ] {
        let body = vec![1; 4 + len];
        assert_eq!(Backend::decode(b'K', &body).is_ok(), fits, "{len}");
    }
}

#[test]
fn both_ways_of_writing_the_negotiated_version_are_read() {
    for version in [[0, 3, 0, 0], [0, 0, 0, 0]] {
        let body = [&version[..], b"\0\0\0\x01_pq_.x\0"].concat();
        let Ok(Backend::NegotiateProtocolVersion(answer)) = Backend::decode(b'v', &body) else {
            panic!()
        };
        assert_eq!(answer.minor, 0);
        assert_eq!(answer.unknown.collect::<Vec<_>>(), [&b"_pq_.x"[..]]);
    }
    assert!(Backend::decode(b'v', b"\0\x04\0\0\0\0\0\0").is_err());
    assert!(Backend::decode(b'v', b"\0\x03\0\0\xff\xff\xff\xff").is_err());
}

#[test]
fn the_list_is_closed_and_every_message_on_it_has_a_sample() {
    let sampled: Vec<u8> = samples().iter().map(|bytes| bytes[0]).collect();
    for tag in 0..=255u8 {
        let unknown = matches!(
            Backend::decode(tag, &[]),
            Err(PeerMisbehaved::UnknownMessage { .. })
        );
        assert_eq!(is_known(tag), !unknown, "{}", char::from(tag));
        assert_eq!(
            is_known(tag),
            sampled.contains(&tag),
            "{} has no sample",
            char::from(tag)
        );
    }
}

#[test]
fn one_byte_more_or_less_is_an_error_in_every_message() {
    for bytes in samples() {
        decoded(&bytes);
        let (tag, body) = (bytes[0], &bytes[5..]);
        if tag == b'd' {
            continue;
        }
        // A cancel key is of any length from 4 bytes, and here it has 4.
        for cut in 0..body.len() {
            assert!(
                Backend::decode(tag, &body[..cut]).is_err(),
                "{} cut at {cut}",
                char::from(tag)
            );
        }
        if tag != b'K' {
            assert!(
                Backend::decode(tag, &[body, &[0]].concat()).is_err(),
                "{} with a byte more",
                char::from(tag)
            );
        }
    }
}

#[test]
fn what_does_not_fit_its_field_is_not_written() {
    let many = vec![None; 65536];
    let mut out = vec![7];
    assert!(write::data_row(&mut out, many.into_iter()).is_err());
    assert!(write::parameter_status(&mut out, b"a\0b", b"").is_err());
    assert!(write::command_complete(&mut out, b"SELECT\0 1").is_err());
    assert!(write::row_description(&mut out, vec![ID; 40000].into_iter()).is_err());
    assert_eq!(out, [7], "what failed is taken back");
}

proptest! {
    #[test]
    fn random_bodies_never_panic_and_iterators_end(tag in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..96)) {
        crate::fuzz::walk_backend(tag, &body);
    }

    #[test]
    fn a_written_row_reads_back(values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), 0..30)) {
        let mut out = Vec::new();
        write::data_row(&mut out, values.iter().map(Option::as_deref)).unwrap();
        let Backend::DataRow(row) = decoded(&out) else { panic!() };
        prop_assert_eq!(row.map(|v| v.map(<[u8]>::to_vec)).collect::<Vec<_>>(), values);
    }
}
