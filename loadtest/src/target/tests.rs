//! Answers of the synthetic target.

use super::*;

fn answer(target: &mut Target, messages: &[(u8, &[u8])]) -> Vec<u8> {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for (tag, body) in messages {
        wire::message(&mut up, *tag, |b| b.extend_from_slice(body));
    }
    assert_eq!(target.feed(&Answers::default(), &up, &mut down), up.len());
    let (mut tags, mut rest) = (Vec::new(), &down[..]);
    while let NextFrame::Message(tag, _, len) = wire::next_frame(rest) {
        tags.push(tag);
        rest = &rest[len..];
    }
    tags
}

#[test]
fn what_is_no_sql_fails_and_skips_to_sync() {
    let mut target = Target {
        started: true,
        ..Target::default()
    };
    let refused = answer(
        &mut target,
        &[
            (b'P', b"n\0headgate refused this\0\0\0"),
            (b'B', b"\0n\0\0\0\0\0\0\0"),
            (b'S', b""),
        ],
    );
    assert_eq!(refused, b"EZ");
    assert_eq!(answer(&mut target, &[(b'Q', b"nonsense\0")]), b"EZ");
    assert_eq!(
        answer(
            &mut target,
            &[(b'P', b"n\0select 1\0\0\0"), (b'D', b"Sn\0"), (b'S', b"")]
        ),
        b"1tTZ"
    );
}

#[test]
fn the_catalog_has_the_label_only_when_it_was_asked_for() {
    let mut target = Target {
        started: true,
        ..Target::default()
    };
    let plain = answer(&mut target, &[(b'Q', b"WITH x AS () SELECT 'headgate-mask-1'\0")]);
    let labelled = answer(
        &mut target,
        &[(
            b'Q',
            b"WITH x AS ('public.customers.email') SELECT 'headgate-mask-1'\0",
        )],
    );
    assert_eq!(labelled.len(), plain.len() + 1);
}

#[test]
fn transactions_show_in_ready_for_query() {
    let mut target = Target {
        started: true,
        ..Target::default()
    };
    let mut out = Vec::new();
    for (sql, status) in [("BEGIN", b'T'), ("select 1", b'T'), ("COMMIT", b'I')] {
        let mut up = Vec::new();
        wire::message(&mut up, b'Q', |b| wire::text(b, sql.as_bytes()));
        out.clear();
        target.feed(&Answers::default(), &up, &mut out);
        assert_eq!(out.last(), Some(&status), "{sql}");
    }
}

#[test]
fn a_held_statement_leaves_the_moment_of_its_arrival() {
    let mut target = Target {
        started: true,
        ..Target::default()
    };
    let sql = format!("{HELD_SQL}17\0");
    assert_eq!(
        answer(
            &mut target,
            &[
                (b'Q', sql.as_bytes()),
                (b'Q', b"DELETE FROM others WHERE id = 18\0")
            ]
        ),
        b"CZCZ"
    );
    assert_eq!(
        target
            .arrivals
            .iter()
            .map(|(number, _)| *number)
            .collect::<Vec<_>>(),
        [17]
    );
}
