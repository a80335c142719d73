//! What was recorded is found again, and what was tampered with is named.

mod kit;

use headgate_audit::*;
use headgate_recording::rows::SessionEnd;
use headgate_recording::{Body, Direction, StatementOutcome, Verdict, keys};
use kit::*;
use rocksdb::{DB, Options};
use std::time::{Duration, Instant};

fn first(rows: &Page<StatementRow>) -> &StatementRow {
    rows.rows.first().expect("no row")
}

#[test]
fn a_statement_is_found_within_a_second_and_joined_with_its_answer_and_end() {
    let place = Place::new();
    let mut plane = place.data_plane();
    let recorder = place.recorder();
    let mut session = plane.open("alice", &["agent:shop", "agent:inner"], "orders");
    plane.settle();
    let reader = place.reader();
    reader
        .statements(&StatementFilter::default(), &PageRequest::default())
        .unwrap();
    let statement = plane.statement(
        &mut session,
        "select * from orders",
        "public.orders",
        Verdict::Hold,
    );
    plane.spool.publish();
    let start = Instant::now();
    let all = StatementFilter::default();
    until("the statement is seen", || {
        !reader
            .statements(&all, &PageRequest::default())
            .unwrap()
            .rows
            .is_empty()
    });
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let page = reader.statements(&all, &PageRequest::default()).unwrap();
    assert!(!first(&page).ended && first(&page).answer.is_none());
    // The answer and the end come in later chunks.
    plane.settle();
    plane.answer(&mut session, statement);
    plane.settle();
    let mut other = plane.open("bob", &[], "billing");
    let theirs = plane.statement(&mut other, "select 2", "public.bills", Verdict::Allow);
    plane.end(&mut other, theirs, None);
    plane.settle();
    let row_description = b"T\0\0\0\x1b\0\x01id\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
    plane.reply(&mut session, statement, row_description);
    plane.reply(&mut session, statement, b"D\0\0\0\x0c\0\x01\0\0\0\x02");
    plane.reply(&mut session, statement, b"4");
    // The last piece comes with the end.
    plane.end_with(&mut session, statement, Some("42P01"), b"2");
    let small = plane.statement(&mut session, "select 8", "public.orders", Verdict::Allow);
    plane.end_with(&mut session, small, None, b"D\0\0\0\x0b\0\x01\0\0\0\x018D\0");
    let id = session.id.to_string();
    plane.close(session);
    plane.close(other);
    plane.settle();
    std::thread::sleep(store::CATCH_UP_MIN);
    let row = reader.statement(&id, 1).unwrap().unwrap();
    assert_eq!(
        (row.principal.as_str(), row.actor.as_str(), row.target.as_str()),
        ("alice", "agent:shop", "orders")
    );
    assert_eq!(
        (row.answer, row.question.as_deref(), &row.reviewers[..]),
        (
            Some(OutcomeName::Approved),
            Some("HG-17"),
            &["bob".to_owned()][..]
        )
    );
    assert_eq!(
        (
            row.ended,
            row.rows,
            row.duration_us,
            row.error.as_ref().unwrap().code.as_str()
        ),
        (true, 2, 1234, "42P01")
    );
    assert_eq!(row.parameters[0].value.as_deref(), Some("42"));
    assert_eq!(row.class, ["read"]);
    let replay = reader.replay(&id).unwrap();
    let kinds: Vec<String> = replay
        .iter()
        .map(|e| {
            serde_json::to_value(e).unwrap()["kind"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "session_open",
            "statement",
            "answered",
            "reply",
            "reply",
            "reply",
            "reply",
            "statement_end",
            "statement",
            "reply",
            "statement_end",
            "session_close",
        ]
    );
    assert!(
        matches!(&replay[3].what, ReplayWhat::Reply { messages, .. } if messages[0] == ReplyMessage::Columns { names: vec!["id".into()] })
    );
    assert!(matches!(&replay[4].what, ReplayWhat::Reply { messages, .. } if messages.is_empty()));
    assert!(
        matches!(&replay[6].what, ReplayWhat::Reply { messages, .. } if messages[0] == ReplyMessage::Row { values: vec![Some("42".into())] })
    );
    let cut = ReplyMessage::Cut { bytes: 2 };
    let row = ReplyMessage::Row {
        values: vec![Some("8".into())],
    };
    assert!(
        matches!(&replay[9].what, ReplayWhat::Reply { messages, statement: 2, bytes: 14 } if *messages == [row, cut])
    );
    let summary = reader.session(&id).unwrap().unwrap();
    assert_eq!((summary.state, summary.statements), (SessionEnd::Closed, 2));
    assert!(summary.chain_head.is_some());
    recorder.stop();
}

#[test]
fn data_that_goes_in_is_found_and_shown_and_so_is_what_was_only_prepared() {
    let place = Place::new();
    let mut plane = place.data_plane();
    let recorder = place.recorder();
    let mut session = plane.open("alice", &[], "orders");
    let prepared = |n: u32, text: &str| Body::Prepared {
        prepared: n,
        name: b"s1".to_vec(),
        text: text.into(),
        verdict: Verdict::Allow,
        rule: "readers".into(),
        epoch: headgate_plane::Epoch(3),
        class: 1,
        verbs: vec!["select".into()],
        resources: vec!["public.secrets".into()],
    };
    // Never bound (G9).
    plane.write(&mut session, prepared(1, "select never_bound from secrets"));
    let before = plane.statement(&mut session, "select 1", "public.orders", Verdict::Allow);
    plane.end(&mut session, before, None);
    // A canary in COPY IN (G8), cut by two pieces, which are in two chunks.
    let copy = plane.statement(
        &mut session,
        "copy notes from stdin",
        "public.notes",
        Verdict::Allow,
    );
    plane.stream(&mut session, copy, Direction::ToTarget, 0, b"one\nCAN");
    plane.settle();
    std::thread::sleep(Duration::from_millis(60));
    plane.stream(&mut session, copy, Direction::ToTarget, 7, b"ARY-7\n");
    plane.stream_end(&mut session, copy, 13, 2);
    plane.end_with(&mut session, copy, None, b"C\0\0\0\x0bCOPY 2\0");
    // What the statement only names.
    plane.stands_for = vec![b"delete from orders where true".to_vec()];
    let execute = plane.statement(&mut session, "execute p(7)", "public.orders", Verdict::Allow);
    plane.stands_for = Vec::new();
    plane.end_as(&mut session, execute, StatementOutcome::Cut, Some("57P01"));
    let id = session.id.to_string();
    plane.close(session);
    plane.settle();
    recorder.stop();
    let reader = place.reader();
    let by_text = |text: &str| {
        let filter = StatementFilter {
            text: Some(text.into()),
            ..StatementFilter::default()
        };
        let page = reader.statements(&filter, &PageRequest::default()).unwrap();
        page.rows.iter().map(|row| row.statement).collect::<Vec<_>>()
    };
    assert_eq!(by_text("canary-7"), [copy]);
    assert_eq!(by_text("one\ncanary"), [copy]);
    assert!(by_text("canary-8").is_empty());
    assert_eq!(by_text("DELETE FROM orders"), [execute]);
    let row = reader.statement(&id, execute).unwrap().unwrap();
    assert_eq!(
        (row.outcome, row.stands_for.len()),
        (Some(StatementOutcomeName::NotKnown), 1)
    );
    let replay = reader.replay(&id).unwrap();
    assert!(
        matches!(&replay[1].what, ReplayWhat::Prepared { text, name, prepared: 1, .. }
        if text == "select never_bound from secrets" && name == "s1")
    );
    let data: Vec<_> = replay
        .iter()
        .filter_map(|e| match &e.what {
            ReplayWhat::Data {
                statement,
                offset,
                text,
                ..
            } => Some((*statement, *offset, text.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(data, [(copy, 0, "one\nCAN"), (copy, 7, "ARY-7\n")]);
    assert!(replay.iter().any(|e| matches!(&e.what,
        ReplayWhat::DataEnd { statement, direction: DirectionName::ToTarget, bytes: 13, rows: 2, digest, outcome: StreamOutcomeName::Done, .. }
            if *statement == copy && *digest == "05".repeat(32))));
    let complete = ReplyMessage::Complete { tag: "COPY 2".into() };
    assert!(
        replay.iter().any(
            |e| matches!(&e.what, ReplayWhat::Reply { messages, .. } if *messages == [complete.clone()])
        )
    );
    let report = place.verify();
    assert!(report.ok, "{report:?}");
}

#[test]
fn an_event_of_a_later_version_is_kept_sealed_and_shown_as_such() {
    let place = Place::new();
    let mut plane = place.data_plane();
    let recorder = place.recorder();
    let mut session = plane.open("alice", &[], "orders");
    plane.write(
        &mut session,
        Body::Unknown {
            kind: 99,
            bytes: b"what a later version says".to_vec(),
        },
    );
    let statement = plane.statement(&mut session, "select 1", "public.orders", Verdict::Allow);
    plane.end(&mut session, statement, None);
    let id = session.id.to_string();
    plane.close(session);
    plane.settle();
    recorder.stop();
    // A recorder that starts over it reads it, too.
    let recorder = place.recorder();
    let next = plane.open("bob", &[], "orders");
    plane.close(next);
    plane.settle();
    recorder.stop();
    let report = place.verify();
    assert!(report.ok, "{report:?}");
    let replay = place.reader().replay(&id).unwrap();
    assert_eq!(
        replay[1].what,
        ReplayWhat::Unknown {
            event_kind: 99,
            bytes: 25
        }
    );
    assert!(matches!(replay[2].what, ReplayWhat::Statement { .. }));
}

#[test]
fn filters_and_pages_give_each_fitting_row_once_newest_first() {
    let place = Place::new();
    let mut plane = place.data_plane();
    let recorder = place.recorder();
    let mut alice = plane.open("alice", &[], "orders");
    let mut agent = plane.open("carol", &["agent:shop"], "billing");
    let mut middle = 0;
    for n in 0..120u32 {
        let (session, relation) = if n % 3 == 0 {
            (&mut agent, "public.bills")
        } else {
            (&mut alice, "public.orders")
        };
        let verdict = if n % 10 == 9 {
            Verdict::Deny
        } else {
            Verdict::Allow
        };
        let s = plane.statement(session, &format!("SELECT {n} FROM t"), relation, verdict);
        plane.end(session, s, (n % 10 == 9).then_some("42501"));
        if n == 60 {
            plane.settle();
            std::thread::sleep(Duration::from_millis(2));
            middle = unix_us();
        }
        if n % 20 == 0 {
            plane.settle();
        }
    }
    plane.close(alice);
    plane.close(agent);
    plane.settle();
    let reader = place.reader();
    let numbers = |filter: &StatementFilter, limit: usize| {
        let mut page = PageRequest { cursor: None, limit };
        let mut numbers = Vec::new();
        loop {
            let got = reader.statements(filter, &page).unwrap();
            assert!(got.rows.len() <= limit);
            numbers.extend(
                got.rows
                    .iter()
                    .map(|r| r.text.split(' ').nth(1).unwrap().parse::<u32>().unwrap()),
            );
            match got.next {
                Some(next) => page.cursor = Some(next),
                None => return numbers,
            }
        }
    };
    let expect = |fits: &dyn Fn(u32) -> bool| (0..120).rev().filter(|n| fits(*n)).collect::<Vec<_>>();
    let f = StatementFilter::default;
    for limit in [1, 7, 120, 1000] {
        assert_eq!(numbers(&f(), limit), expect(&|_| true), "limit {limit}");
    }
    let name = |s: &str| Some(s.to_owned());
    assert_eq!(
        numbers(
            &StatementFilter {
                principal: name("alice"),
                ..f()
            },
            9
        ),
        expect(&|n| n % 3 != 0)
    );
    assert_eq!(
        numbers(
            &StatementFilter {
                actor: name("agent:shop"),
                ..f()
            },
            9
        ),
        expect(&|n| n % 3 == 0)
    );
    assert_eq!(
        numbers(
            &StatementFilter {
                actor: name("carol"),
                ..f()
            },
            9
        ),
        expect(&|_| false)
    );
    assert_eq!(
        numbers(
            &StatementFilter {
                anyone: name("carol"),
                ..f()
            },
            9
        ),
        expect(&|n| n % 3 == 0)
    );
    assert_eq!(
        numbers(
            &StatementFilter {
                target: name("billing"),
                ..f()
            },
            9
        ),
        expect(&|n| n % 3 == 0)
    );
    assert_eq!(
        numbers(
            &StatementFilter {
                resource: name("public.orders"),
                ..f()
            },
            9
        ),
        expect(&|n| n % 3 != 0)
    );
    assert_eq!(
        numbers(
            &StatementFilter {
                verdict: Some(VerdictName::Deny),
                ..f()
            },
            9
        ),
        expect(&|n| n % 10 == 9)
    );
    assert_eq!(
        numbers(
            &StatementFilter {
                rule: name("rule Deny"),
                ..f()
            },
            9
        ),
        expect(&|n| n % 10 == 9)
    );
    assert_eq!(
        numbers(
            &StatementFilter {
                code: name("42501"),
                ..f()
            },
            9
        ),
        expect(&|n| n % 10 == 9)
    );
    assert_eq!(
        numbers(
            &StatementFilter {
                error: Some(false),
                ..f()
            },
            9
        ),
        expect(&|n| n % 10 != 9)
    );
    assert_eq!(
        numbers(
            &StatementFilter {
                text: name("select 77 "),
                ..f()
            },
            9
        ),
        [77]
    );
    assert_eq!(
        numbers(
            &StatementFilter {
                from_us: Some(middle),
                ..f()
            },
            9
        ),
        expect(&|n| n > 60)
    );
    assert_eq!(
        numbers(
            &StatementFilter {
                to_us: Some(middle),
                ..f()
            },
            9
        ),
        expect(&|n| n <= 60)
    );
    let sessions = reader
        .sessions(
            &SessionFilter {
                principal: name("carol"),
                ..SessionFilter::default()
            },
            &PageRequest::default(),
        )
        .unwrap();
    assert_eq!(sessions.rows.len(), 1);
    assert_eq!(sessions.rows[0].actor, "agent:shop");
    recorder.stop();
}

/// A stopped history of several chunks and checkpoints.
fn history() -> Place {
    let place = Place::new();
    let mut plane = place.data_plane();
    let recorder = place.recorder();
    let mut session = plane.open("alice", &[], "orders");
    for n in 0..12 {
        let s = plane.statement(
            &mut session,
            &format!("select {n}"),
            "public.orders",
            Verdict::Allow,
        );
        plane.reply(&mut session, s, &[n as u8; 50]);
        plane.end(&mut session, s, None);
        plane.settle();
        if n == 5 {
            std::thread::sleep(Duration::from_millis(1200));
        }
    }
    plane.close(session);
    plane.settle();
    drop(plane);
    recorder.stop();
    let report = place.verify();
    assert!(
        report.ok && report.chunks >= 12 && report.checkpoints >= 2,
        "{report:#?}"
    );
    assert_eq!(
        (report.sealed_chunks, report.sessions, report.open_sessions),
        (report.chunks, 1, 0)
    );
    place
}

struct Tamper {
    db: DB,
}

impl Tamper {
    fn open(place: &Place) -> Tamper {
        let mut options = Options::default();
        options.set_max_open_files(64);
        Tamper {
            db: DB::open_cf(&options, place.audit(), keys::FAMILIES).unwrap(),
        }
    }

    fn get(&self, family: &str, key: &[u8]) -> Vec<u8> {
        self.db
            .get_cf(self.db.cf_handle(family).unwrap(), key)
            .unwrap()
            .unwrap()
    }

    fn put(&self, family: &str, key: &[u8], value: &[u8]) {
        self.db
            .put_cf(self.db.cf_handle(family).unwrap(), key, value)
            .unwrap();
    }

    fn delete(&self, family: &str, key: &[u8]) {
        self.db
            .delete_cf(self.db.cf_handle(family).unwrap(), key)
            .unwrap();
    }
}

fn broken(place: &Place) -> VerifyReport {
    let report = place.verify();
    assert!(!report.ok, "nothing was found");
    report
}

#[test]
fn a_directory_of_an_older_format_is_refused_by_all_who_open_it() {
    let place = Place::new();
    let mut plane = place.data_plane();
    let recorder = place.recorder();
    let session = plane.open("alice", &[], "orders");
    plane.close(session);
    plane.settle();
    recorder.stop();
    Tamper::open(&place).put(keys::META, keys::LAYOUT_KEY, &[2]);
    let said = place.refused_recorder();
    assert!(
        said.contains("holds recordings of format 2, and this version writes format 3"),
        "{said}"
    );
    let dir = place.audit().display().to_string();
    let refused = AuditError::Layout { dir, found: 2 };
    assert_eq!(
        headgate_audit::verify(&place.audit(), &place.key()).unwrap_err(),
        refused
    );
    assert_eq!(
        place
            .reader()
            .sessions(&SessionFilter::default(), &PageRequest::default())
            .unwrap_err(),
        refused
    );
    assert!(
        refused
            .to_string()
            .contains("format 2, and this version reads format 3"),
        "{refused}"
    );
}

#[test]
fn a_changed_byte_names_its_chunk() {
    let place = history();
    let tamper = Tamper::open(&place);
    let good = tamper.get(keys::CHUNK, &keys::chunk(4));
    for at in [0, 20, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        tamper.put(keys::CHUNK, &keys::chunk(4), &bad);
        assert_eq!(broken(&place).findings[0].chunk, Some(4), "byte {at}");
    }
    tamper.put(keys::CHUNK, &keys::chunk(4), &good);
    assert!(place.verify().ok);
}

#[test]
fn a_deleted_an_exchanged_and_a_resealed_chunk_are_named() {
    let place = history();
    let tamper = Tamper::open(&place);
    let (four, five) = (
        tamper.get(keys::CHUNK, &keys::chunk(4)),
        tamper.get(keys::CHUNK, &keys::chunk(5)),
    );
    tamper.delete(keys::CHUNK, &keys::chunk(4));
    let found = broken(&place);
    assert_eq!(
        (found.findings[0].chunk, found.findings[0].what.as_str()),
        (Some(4), "chunk 4 is missing")
    );
    tamper.put(keys::CHUNK, &keys::chunk(4), &five);
    tamper.put(keys::CHUNK, &keys::chunk(5), &four);
    assert_eq!(broken(&place).findings[0].chunk, Some(4));
    // Somebody who knows the format writes the leaf anew as well: the signed root still tells.
    let leaf = keys::leaf(4);
    let sealed = tamper.get(keys::META, &leaf);
    tamper.put(keys::CHUNK, &keys::chunk(5), &five);
    tamper.put(keys::META, &leaf, &headgate_recording::tree::leaf_hash(4, &five));
    let found = broken(&place);
    assert!(
        found
            .findings
            .iter()
            .any(|f| f.what.contains("not those that were sealed in the checkpoint")),
        "{found:#?}"
    );
    tamper.put(keys::CHUNK, &keys::chunk(4), &four);
    // Only the leaf is wrong now.
    assert!(!broken(&place).ok);
    tamper.put(keys::META, &leaf, &sealed);
    assert!(place.verify().ok);
}

#[test]
fn changed_replies_summaries_session_rows_and_checkpoints_are_named() {
    let place = history();
    let tamper = Tamper::open(&place);
    let db = &tamper.db;
    let first = |family: &str, prefix: &[u8]| {
        let mode = rocksdb::IteratorMode::From(prefix, rocksdb::Direction::Forward);
        db.iterator_cf(db.cf_handle(family).unwrap(), mode)
            .next()
            .unwrap()
            .unwrap()
    };
    for (family, prefix, sentence) in [
        (keys::RESP, &b""[..], "replies"),
        (keys::IDX, &b"s"[..], "summary"),
        (keys::SESS, &b""[..], "session's row"),
        (keys::META, &b"c"[..], "checkpoint"),
    ] {
        let (key, good) = first(family, prefix);
        let mut bad = good.to_vec();
        let last = bad.len() - 2;
        bad[last] ^= 1;
        tamper.put(family, &key, &bad);
        let found = broken(&place);
        assert!(
            found.findings.iter().any(|f| f.what.contains(sentence)),
            "{family}: {found:#?}"
        );
        tamper.delete(family, &key);
        let without = place.verify();
        if family != keys::META {
            assert!(!without.ok, "{family}: a deletion was not found");
        }
        if family == keys::RESP {
            // The chains hold without the replies: only their absence is found.
            assert_eq!(without.findings.len(), 1, "{without:#?}");
        }
        tamper.put(family, &key, &good);
        assert!(place.verify().ok, "{family}");
    }
}

#[test]
fn a_tail_cut_off_with_its_checkpoints_is_found_against_a_kept_checkpoint() {
    let place = history();
    let kept = place.reader().latest_checkpoint().unwrap().unwrap();
    let report = place.verify();
    let tamper = Tamper::open(&place);
    let checkpoints: Vec<u64> = place
        .reader()
        .checkpoints(100)
        .unwrap()
        .into_iter()
        .map(|c| c.0)
        .collect();
    let cut = *checkpoints.last().unwrap();
    assert!(cut < report.chunks);
    for number in cut..report.chunks {
        tamper.delete(keys::CHUNK, &keys::chunk(number));
        tamper.delete(keys::RESP, &keys::chunk(number));
        tamper.delete(keys::IDX, &keys::summary(number));
        tamper.delete(keys::META, &keys::leaf(number));
    }
    let found = broken(&place);
    assert!(
        found.findings[0].what.contains("the tail was cut off"),
        "{found:#?}"
    );
    for size in checkpoints.iter().filter(|size| **size > cut) {
        tamper.delete(keys::META, &keys::checkpoint(*size));
    }
    let found = verify_against(&place.audit(), &place.key(), &[kept]).unwrap();
    assert!(
        found
            .findings
            .iter()
            .any(|f| f.what.contains("a checkpoint kept elsewhere covers")),
        "{found:#?}"
    );
}

#[test]
fn another_key_verifies_nothing() {
    let place = history();
    let other = headgate_recorder::load_or_create_key(&place.dir.path().join("other")).unwrap();
    let report = verify(&place.audit(), other.public()).unwrap();
    assert!(!report.ok && report.sealed_chunks == 0);
}
