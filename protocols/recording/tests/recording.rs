//! The face of the crate: encodings agree, chunks give back what went in, hostile bytes are refused.

use headgate_plane::{Epoch, Parameter, ParameterKind, Protocol, QuestionDigest, SessionId, Who};
use headgate_recording::chain::Chain;
use headgate_recording::chunk::{Builder, Chunk, ChunkFacts, Ended, SpoolRange};
use headgate_recording::event::*;
use headgate_recording::sessions::{Piece, Sessions};
use headgate_recording::summary::Summarizer;
use headgate_recording::view::EventKind;
use headgate_recording::*;

fn who() -> Who {
    Who {
        principal: "alice".into(),
        groups: vec!["agents".into(), "dba".into()],
        chain: vec!["agent:shop".into(), "agent:inner".into()],
        issuer: "local".into(),
        address: "10.0.0.9".into(),
        application: "psql".into(),
    }
}

fn parameter(type_oid: u32, format: u16, value: Option<&[u8]>) -> Parameter {
    Parameter {
        kind: ParameterKind::Postgres { type_oid, format },
        value: value.map(<[u8]>::to_vec),
    }
}

fn bodies() -> Vec<Body> {
    vec![
        Body::SessionOpen {
            who: who(),
            target: "orders".into(),
            environment: "production".into(),
            role: "orders_app".into(),
            credential_id: "t-1".into(),
            epoch: Epoch(7),
            protocol: Protocol::Postgres,
            target_session: "4711".into(),
        },
        Body::SignInRefused {
            target: "x".into(),
            user: "u".into(),
            address: "::1".into(),
            reason: "no".into(),
        },
        Body::Statement {
            statement: 1,
            prepared: 300,
            text: b"select \xff from t where id = $1".to_vec(),
            stands_for: vec![b"delete from t where id < $1".to_vec(), vec![], b"\xfe".to_vec()],
            parameters: vec![parameter(23, 0, Some(b"42")), parameter(0, 1, None)],
            verdict: Verdict::Hold,
            rule: "r".into(),
            epoch: Epoch(u64::MAX),
            class: 3,
            verbs: vec!["select".into()],
            resources: vec!["public.t".into(), "public.u".into()],
        },
        Body::Answered {
            statement: 1,
            question: 17,
            outcome: Outcome::Approved,
            reviewers: vec!["bob".into()],
            reason: "ok".into(),
            digest: QuestionDigest([9; 32]),
        },
        Body::Stream {
            statement: 1,
            direction: Direction::ToClient,
            offset: 1 << 40,
            bytes: vec![0, 1, 2, 255],
        },
        Body::StatementEnd {
            statement: 1,
            outcome: StatementOutcome::Failed,
            duration_us: 12,
            rows: 3,
            bytes: 400,
            tag: "SELECT 3".into(),
            error: Some(RecordedError {
                code: "42P01".into(),
                message: "relation is not there".into(),
            }),
            masked: 2,
            truncated: true,
            reply: vec![b'C', 0, 255],
        },
        Body::SessionClose {
            reason: "client".into(),
            statements: 1,
            bytes_from_client: 5,
            bytes_to_client: 6,
        },
        Body::SessionLost {
            reason: "gone".into(),
        },
        Body::Recorder {
            note: RecorderNote::Stopped,
        },
        Body::Admin {
            who: who(),
            action: "rules.apply".into(),
            subject: "rules.toml".into(),
            detail: "".into(),
            accepted: true,
        },
        Body::Prepared {
            prepared: 1,
            name: b"s1".to_vec(),
            text: b"select 1".to_vec(),
            verdict: Verdict::Allow,
            rule: "r".into(),
            epoch: Epoch(2),
            class: 1,
            verbs: vec!["select".into()],
            resources: vec!["public.u".into()],
        },
        Body::Stream {
            statement: 1,
            direction: Direction::ToTarget,
            offset: 0,
            bytes: b"1\tcanary\n".to_vec(),
        },
        Body::StreamEnd {
            statement: 1,
            direction: Direction::ToTarget,
            bytes: 9,
            rows: 1,
            digest: [7; 32],
            truncated: false,
            outcome: StreamOutcome::Failed,
            reason: "the client gave up".into(),
        },
    ]
}

fn events() -> Vec<Event> {
    let mut events = Vec::new();
    for (n, body) in bodies().into_iter().enumerate() {
        let session = SessionId::v7(1_795_000_000_000 + n as u64 % 3, u128::MAX / 3 + n as u128 % 3);
        events.push(Event {
            session,
            seq: n as u32 / 3,
            unix_us: 1_795_000_000_000_000 + (n as u64 * 7919) % 13,
            body,
        });
    }
    events
}

/// The owned form, as serde derives it.
fn postcard_of(event: &Event) -> Vec<u8> {
    postcard::to_stdvec(event).unwrap()
}

#[test]
fn the_three_forms_of_an_event_are_the_same_bytes() {
    for event in events() {
        let mut owned = Vec::new();
        encode(&event, &mut owned);
        assert_eq!(decode(&owned).unwrap(), event);
        let view = EventView::read(&owned).unwrap();
        assert_eq!(
            (view.session, view.seq, view.unix_us),
            (event.session, event.seq, event.unix_us)
        );
        if let Some(borrowed) = event.borrowed() {
            assert_eq!(postcard_of(&event), owned);
            let mut room = vec![0; borrowed.size_bound()];
            let used = encode_into(&borrowed, &mut room).unwrap();
            assert_eq!(room[..used], owned);
            assert_eq!(
                encode_into(&borrowed, &mut room[..used - 1]),
                Err(CodecError::NoRoom)
            );
        }
        for cut in 0..owned.len() {
            assert!(decode(&owned[..cut]).is_err() && EventView::read(&owned[..cut]).is_err());
        }
        owned.push(0);
        assert_eq!(decode(&owned), Err(CodecError::Trailing { bytes: 1 }));
    }
}

/// Recordings are signed and kept: a change of this file is a new format, with a new magic and a new layout.
#[test]
fn the_bytes_of_every_kind_of_event_stay_as_they_are() {
    let mut told = String::new();
    for event in events() {
        let mut record = Vec::new();
        encode(&event, &mut record);
        let kind = EventView::read(&record).unwrap().body.kind();
        let hex: String = record.iter().map(|byte| format!("{byte:02x}")).collect();
        told += &format!("{:>2} {kind:?} {hex}\n", kind.number());
    }
    assert_eq!(told, include_str!("format_3.out"), "as it is now:\n{told}");
}

#[test]
fn numbers_of_kinds_are_those_of_the_encoding_and_none_is_left_out() {
    let mut seen = std::collections::BTreeSet::new();
    for event in events() {
        let alone = Event {
            session: SessionId(1),
            seq: 1,
            unix_us: 1,
            ..event
        };
        let record = record_of(&alone);
        let kind = EventView::read(&record).unwrap().body.kind();
        assert_eq!(record[3], kind.number());
        assert_eq!(EventKind::of(kind.number()), Some(kind));
        seen.insert(kind);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), EventKind::ALL);
    // The last note of the recorder is read; the next one, which is not there yet, is passed over.
    let mut record = record_of(&Event {
        session: SessionId(1),
        seq: 1,
        unix_us: 1,
        body: Body::Recorder {
            note: RecorderNote::Stopped,
        },
    });
    assert!(matches!(
        EventView::read(&record).unwrap().body,
        BodyView::Recorder { .. }
    ));
    *record.last_mut().unwrap() += 1;
    assert!(matches!(
        EventView::read(&record).unwrap().body,
        BodyView::Unknown { kind: 8, .. }
    ));
}

#[test]
fn every_arm_has_the_number_that_the_format_gives_it() {
    fn numbers<T: serde::Serialize>(arms: &[T]) {
        for (number, arm) in (0u8..).zip(arms) {
            assert_eq!(postcard::to_stdvec(arm).unwrap(), [number]);
        }
    }
    let outcomes = [
        StatementOutcome::Done,
        StatementOutcome::Failed,
        StatementOutcome::Cancelled,
        StatementOutcome::Cut,
        StatementOutcome::NotRun,
    ];
    let verdicts = [Verdict::Allow, Verdict::Hold, Verdict::Deny];
    numbers(&outcomes);
    numbers(&verdicts);
    numbers(&[Direction::ToTarget, Direction::ToClient]);
    numbers(&[StreamOutcome::Done, StreamOutcome::Failed, StreamOutcome::Cut]);
    numbers(&[
        Outcome::Approved,
        Outcome::Denied,
        Outcome::Expired,
        Outcome::Revoked,
        Outcome::Withdrawn,
        Outcome::Left,
        Outcome::SpentElsewhere,
    ]);
    assert_eq!(
        postcard::to_stdvec(&ParameterKind::Postgres {
            type_oid: 1,
            format: 1
        })
        .unwrap(),
        [0, 1, 1]
    );
    let of = |body| Event {
        session: SessionId(1),
        seq: 1,
        unix_us: 1,
        body,
    };
    // One outcome more is none, for the outline as for the view.
    let mut end = record_of(&of(bodies().swap_remove(5)));
    assert_eq!(end[3..6], [EventKind::StatementEnd.number(), 1, 1]);
    end[5] = outcomes.len() as u8;
    assert!(OutlineReader::default().read(&end).is_err() && EventView::read(&end).is_err());
    // The encoder of hot events has tables of its own.
    for mut event in [of(bodies().swap_remove(5)), of(bodies().swap_remove(2))] {
        for arm in 0..5 {
            match &mut event.body {
                Body::StatementEnd { outcome, .. } => *outcome = outcomes[arm],
                Body::Statement { verdict, .. } => *verdict = verdicts[arm % 3],
                _ => panic!("not a hot event"),
            }
            assert_eq!(record_of(&event), postcard_of(&event));
            assert!(matches!(
                OutlineReader::default().read(&record_of(&event)).unwrap().what,
                What::StatementEnd { .. } | What::Statement(_)
            ));
        }
    }
}

/// Values in a row, as a Bind message has them.
#[derive(Debug)]
struct Bound<'a>(Vec<Option<&'a [u8]>>);

impl ParameterSource for Bound<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn each(&self, take: &mut dyn FnMut(ParameterView<'_>)) {
        for value in &self.0 {
            take(ParameterView {
                kind: ParameterKind::Postgres {
                    type_oid: 25,
                    format: 1,
                },
                value: *value,
            });
        }
    }
}

#[test]
fn parameters_are_recorded_where_they_lie_and_long_ones_are_cut() {
    let long = vec![7u8; 100 << 10];
    for values in [
        vec![],
        vec![Some(&b"a"[..]), None, Some(b"")],
        vec![Some(&long[..]), Some(b"b"), None, Some(&long[..]), Some(b"c")],
    ] {
        let list: Vec<Parameter> = values.iter().map(|value| parameter(25, 1, *value)).collect();
        let bound = Bound(values.clone());
        let written = |parameters: Parameters<'_>| {
            let body = BodyRef::Statement {
                statement: 1,
                prepared: 0,
                text: Bytes(b"select $1"),
                stands_for: Texts::NONE,
                parameters,
                verdict: Verdict::Allow,
                rule: "r",
                epoch: Epoch(1),
                class: 1,
                verbs: &[],
                resources: &[],
            };
            let event = EventRef {
                session: SessionId(7),
                seq: 0,
                unix_us: 1,
                body,
            };
            let mut room = vec![0; event.size_bound()];
            let used = encode_into(&event, &mut room).unwrap();
            room.truncate(used);
            room
        };
        let bytes = written(Parameters::Source(&bound));
        assert_eq!(bytes, written(Parameters::List(&list)));
        let BodyView::Statement { parameters, .. } = EventView::read(&bytes).unwrap().body else {
            panic!()
        };
        let mut left = 128 << 10;
        for (read, value) in parameters.iter().zip(&values) {
            let keep = value.map(|v| v.len().min(64 << 10).min(left));
            left -= keep.unwrap_or(0);
            assert_eq!(read.value.map(<[u8]>::len), keep);
        }
    }
}

#[test]
fn numbers_of_every_length_are_written_as_postcard_writes_them() {
    for shift in 0..128 {
        for id in [
            1u128 << shift,
            (1 << shift) - 1,
            u128::MAX >> shift,
            0x0123_4567_89ab_cdef_0123_4567_89ab_cdef >> shift,
        ] {
            let n = id as u64;
            let body = Body::StatementEnd {
                statement: n as u32,
                outcome: StatementOutcome::Done,
                duration_us: n,
                rows: n.rotate_left(13),
                bytes: !n,
                tag: "x".repeat(shift),
                error: None,
                masked: n / 3,
                truncated: false,
                reply: vec![],
            };
            let event = Event {
                session: SessionId(id),
                seq: !n as u32,
                unix_us: n,
                body,
            };
            assert_eq!(record_of(&event), postcard_of(&event));
        }
    }
}

/// What a session that never ends can come to: every number at its longest, every text longer than is kept.
fn longest<'a>(
    text: &'a str,
    list: &'a [String],
    error: bool,
    reply: &'a [u8],
    who: &'a Who,
) -> Vec<BodyRef<'a>> {
    let (epoch, class, verdict) = (Epoch(u64::MAX), u16::MAX, Verdict::Deny);
    let (name, bytes) = (Bytes(text.as_bytes()), Bytes(reply));
    let direction = Direction::ToClient;
    vec![
        BodyRef::SessionOpen {
            who,
            target: text,
            environment: text,
            role: text,
            credential_id: text,
            epoch,
            protocol: Protocol::Ssh,
            target_session: text,
        },
        BodyRef::SignInRefused {
            target: text,
            user: text,
            address: text,
            reason: text,
        },
        BodyRef::Answered {
            statement: u32::MAX,
            question: u64::MAX,
            outcome: Outcome::SpentElsewhere,
            reviewers: list,
            reason: text,
            digest: QuestionDigest([255; 32]),
        },
        BodyRef::Stream {
            statement: u32::MAX,
            direction,
            offset: u64::MAX,
            bytes,
        },
        BodyRef::StatementEnd {
            statement: u32::MAX,
            outcome: StatementOutcome::NotRun,
            duration_us: u64::MAX,
            rows: u64::MAX,
            bytes: u64::MAX,
            tag: text,
            error: error.then_some(ErrorRef {
                code: text,
                message: text,
            }),
            masked: u64::MAX,
            truncated: true,
            reply: bytes,
        },
        BodyRef::SessionClose {
            reason: text,
            statements: u32::MAX,
            bytes_from_client: u64::MAX,
            bytes_to_client: u64::MAX,
        },
        BodyRef::Prepared {
            prepared: u32::MAX,
            name,
            text: name,
            verdict,
            rule: text,
            epoch,
            class,
            verbs: list,
            resources: list,
        },
        BodyRef::StreamEnd {
            statement: u32::MAX,
            direction,
            bytes: u64::MAX,
            rows: u64::MAX,
            digest: [255; 32],
            truncated: true,
            outcome: StreamOutcome::Cut,
            reason: text,
        },
    ]
}

fn written(body: BodyRef<'_>) -> Vec<u8> {
    let event = EventRef {
        session: SessionId(u128::MAX),
        seq: u32::MAX,
        unix_us: u64::MAX,
        body,
    };
    let mut room = vec![0; event.size_bound()];
    let used = encode_into(&event, &mut room).unwrap_or_else(|e| panic!("{e}: {event:?}"));
    room.truncate(used);
    room
}

#[test]
fn the_bound_covers_everything_at_its_longest_and_not_much_more() {
    for len in [
        0, 1, 5, 63, 64, 65, 127, 128, 255, 256, 257, 1023, 1024, 1025, 4095, 4096, 4097, 70_000,
    ] {
        // A character of three bytes at every place of a cut.
        for start in ["", "a", "aa"] {
            let text = format!("{start}{}", "\u{20ac}".repeat(len / 3));
            let list = vec![text.clone(); len % 5];
            let who = Who {
                principal: text.clone(),
                groups: list.clone(),
                chain: list.clone(),
                issuer: text.clone(),
                address: text.clone(),
                application: text.clone(),
            };
            for error in [false, true] {
                let reply = vec![255; len];
                for body in longest(&text, &list, error, &reply, &who) {
                    let (bound, used) = (body.size_bound(), written(body));
                    assert!(EventView::read(&used).is_ok());
                    // What is cut counts in full for some, and lengths are shorter than their longest.
                    assert!(
                        bound <= used.len() + 2048 + 16 * list.len(),
                        "{bound} for {}: {body:?}",
                        used.len()
                    );
                    match body {
                        BodyRef::SignInRefused { .. } => {
                            assert!(used.len() <= bounds::SIGN_IN_REFUSED_BYTES_MAX)
                        }
                        BodyRef::SessionClose { .. } => {
                            assert!(used.len() <= bounds::SESSION_CLOSE_BYTES_MAX)
                        }
                        BodyRef::StreamEnd { .. } => assert!(used.len() <= bounds::STREAM_END_BYTES_MAX),
                        BodyRef::StatementEnd { .. } => {
                            assert!(used.len() <= bounds::STATEMENT_END_BYTES_MAX + len);
                            assert!(
                                used.len() <= bounds::statement_end(if error { text.len() } else { 0 }, len)
                            );
                        }
                        BodyRef::Answered { .. } => {
                            assert!(used.len() <= bounds::ANSWERED_FIXED_BYTES_MAX + bounds::texts(&list));
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

#[test]
fn a_statement_of_any_shape_fits_its_bound() {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |max: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as usize % (max + 1)
    };
    for _ in 0..2000 {
        let text = vec![b'x'; random(300)];
        let inner: Vec<Vec<u8>> = (0..random(3)).map(|_| vec![b'y'; random(300)]).collect();
        let parameters: Vec<Parameter> = (0..random(9))
            .map(|n| {
                parameter(
                    u32::MAX >> n,
                    u16::MAX,
                    (random(3) > 0).then(|| vec![1; random(200)]).as_deref(),
                )
            })
            .collect();
        let list: Vec<String> = (0..random(4)).map(|_| "n".repeat(random(200))).collect();
        let refs: Vec<&[u8]> = inner.iter().map(Vec::as_slice).collect();
        let body = |stands_for| BodyRef::Statement {
            statement: u32::MAX,
            prepared: u32::MAX,
            text: Bytes(&text),
            stands_for,
            parameters: Parameters::List(&parameters),
            verdict: Verdict::Hold,
            rule: list.first().map_or("", String::as_str),
            epoch: Epoch(u64::MAX),
            class: u16::MAX,
            verbs: &list,
            resources: &list,
        };
        let bytes = written(body(Texts::Refs(&refs)));
        assert_eq!(bytes, written(body(Texts::List(&inner))));
        let BodyView::Statement { stands_for, .. } = EventView::read(&bytes).unwrap().body else {
            panic!()
        };
        assert_eq!(stands_for, inner);
    }
}

#[test]
fn what_others_say_is_cut_at_whole_characters() {
    let long = "\u{20ac}".repeat(3000);
    let body = BodyRef::StatementEnd {
        statement: 1,
        outcome: StatementOutcome::Failed,
        duration_us: 0,
        rows: 0,
        bytes: 0,
        tag: &long,
        error: Some(ErrorRef {
            code: &long,
            message: &long,
        }),
        masked: 0,
        truncated: false,
        reply: Bytes(&[]),
    };
    let bytes = written(body);
    let BodyView::StatementEnd {
        tag,
        error: Some(error),
        ..
    } = EventView::read(&bytes).unwrap().body
    else {
        panic!()
    };
    assert_eq!(
        (tag.len(), error.code.len(), error.message.len()),
        (255, 63, 4095)
    );
    assert!(
        [tag, error.code, error.message]
            .iter()
            .all(|cut| long.starts_with(cut))
    );
    let body = BodyRef::Prepared {
        prepared: 1,
        name: Bytes(long.as_bytes()),
        text: Bytes(long.as_bytes()),
        verdict: Verdict::Allow,
        rule: "",
        epoch: Epoch(0),
        class: 0,
        verbs: &[],
        resources: &[],
    };
    let bytes = written(body);
    let BodyView::Prepared { name, text, .. } = EventView::read(&bytes).unwrap().body else {
        panic!()
    };
    assert_eq!((name.len(), text.len()), (256, 9000));
}

/// An event of a kind that is not there yet, with bytes that look like anything.
fn invented(kind: u8, session: u128, seq: u32) -> Event {
    let bytes = [&[0x80, 0xff, 0, 1, 200][..], b"what a later version says"].concat();
    Event {
        session: SessionId(session),
        seq,
        unix_us: 1_795_000_000_000_000,
        body: Body::Unknown { kind, bytes },
    }
}

#[test]
fn an_event_of_a_later_version_is_skipped_by_readers_and_kept_by_chains() {
    let (first, note) = (
        EventKind::ALL.len() as u8,
        [&[EventKind::Recorder.number()][..], &[99, 1, 2]].concat(),
    );
    for kind in [first, first + 1, 100, 127] {
        let event = invented(kind, 5, 1);
        let record = record_of(&event);
        assert_eq!(decode(&record).unwrap(), event);
        let view = EventView::read(&record).unwrap();
        assert_eq!(
            (view.body.kind(), view.body.statement()),
            (EventKind::Unknown(kind), 0)
        );
        let outline = OutlineReader::default().read(&record).unwrap().kind;
        assert_eq!(outline, EventKind::Unknown(kind));
    }
    // A kind that is known has to be read; one beyond what a column holds cannot be.
    for kind in (0..first)
        .filter(|kind| *kind != EventKind::Recorder.number())
        .chain([128, 255])
    {
        assert!(
            EventView::read(&record_of(&invented(kind, 5, 1))).is_err(),
            "kind {kind}"
        );
    }
    // A recorder's note of a later version, after a session's head.
    let head = record_of(&invented(first, 5, 1));
    let cut = head.iter().rposition(|b| *b == first).unwrap();
    let noted = [&head[..cut], &note].concat();
    assert_eq!(EventView::read(&noted).unwrap().body.kind(), EventKind::Recorder);

    // In the middle of a session, and as the whole of one; packed, read back, chained alike by recorder and verifier.
    let open = events()[0].clone();
    let session = open.session.0;
    let end = Event {
        session: open.session,
        seq: 2,
        unix_us: 3,
        body: Body::SessionLost { reason: "x".into() },
    };
    let mut made = Made::default();
    let records: Vec<Vec<u8>> = [open, invented(first, session, 1), end, invented(100, 77, 0)]
        .iter()
        .map(record_of)
        .collect();
    records.iter().for_each(|record| made.add(record));
    let ended = made.ended.clone();
    assert_eq!((ended.len(), ended[0].count), (1, 3));
    let packed = made.finish(0);
    let chunk = Chunk::read(&packed.value).unwrap();
    let (rows, bodies) = (chunk.rows(&plain).unwrap(), chunk.bodies(&plain).unwrap());
    let (mut sessions, mut record, mut again) = (Sessions::default(), Vec::new(), Vec::new());
    for (row, was) in rows.rows.iter().zip(&records) {
        row.record(&bodies, &[], &mut record).unwrap();
        assert_eq!(&record, was);
        let view = EventView::read(&record).unwrap();
        let applied = sessions.apply(0, &Piece::of_view(&view, &record, &[]));
        assert!(applied.expected.is_none() && !applied.headless);
        again.extend(applied.ended);
    }
    assert_eq!(again, ended);
    // One byte of it changed, and the chain shows it.
    let mut changed = records.clone();
    *changed[1].last_mut().unwrap() ^= 1;
    let mut other = Made::default();
    changed.iter().for_each(|record| other.add(record));
    assert_ne!(other.ended, ended);
}

fn plain(bytes: &[u8], len: usize) -> Option<Vec<u8>> {
    (bytes.len() == len).then(|| bytes.to_vec())
}

/// A chunk of records as the recorder makes it, with the sessions' side of it.
#[derive(Default)]
struct Made {
    builder: Builder,
    reader: OutlineReader,
    sessions: Sessions,
    summarizer: Summarizer,
    ended: Vec<Ended>,
}

impl Made {
    fn add(&mut self, record: &[u8]) {
        let outline = self.reader.read(record).unwrap();
        let applied = self.sessions.apply(0, &Piece::of_outline(record, &outline));
        self.builder.add(record, &outline, applied.number);
        let facts = self.sessions.get(outline.session).map(|live| &*live.facts);
        self.summarizer
            .add_outline(&outline, &mut self.reader, applied.number, facts);
        self.ended.extend(applied.ended);
    }

    fn finish(&mut self, number: u64) -> chunk::Packed {
        let reply_hashes = self.sessions.close();
        let spools = vec![SpoolRange {
            generation: 9,
            from: 0,
            to: 800,
        }];
        let about = ChunkFacts {
            number,
            run: 77,
            spools,
            ended: std::mem::take(&mut self.ended),
            reply_hashes,
        };
        self.builder.finish(about, &mut |b| Ok(b.to_vec())).unwrap()
    }
}

fn record_of(event: &Event) -> Vec<u8> {
    let mut record = Vec::new();
    encode(event, &mut record);
    record
}

#[test]
fn an_outline_says_what_the_view_says_and_damage_is_seen_by_both() {
    let mut reader = OutlineReader::default();
    let mut records: Vec<Vec<u8>> = events().iter().map(record_of).collect();
    // Ids of all lengths.
    for shift in [0, 1, 7, 62, 63, 64, 120, 127] {
        for body in bodies().into_iter().take(6) {
            records.push(record_of(&Event {
                session: SessionId(1 << shift),
                seq: u32::MAX,
                unix_us: 1 << (shift % 64),
                body,
            }));
        }
    }
    let mut odd = 0;
    for record in &records {
        for at in 0..record.len() {
            for change in [0u8, 1, 2, 0x7f, 0x80, 0xff] {
                let mut record = record.clone();
                record[at] ^= change;
                if at > 1 && change == 2 {
                    // A number in a longer form than needed, or a byte too many.
                    record.splice(at..=at, [record[at] | 0x80, 0]);
                }
                let (outline, view) = (reader.read(&record), EventView::read(&record));
                let (Ok(outline), Ok(view)) = (&outline, &view) else {
                    assert_eq!(outline.is_ok(), view.is_ok(), "{record:?}");
                    continue;
                };
                assert_eq!(
                    (outline.session, outline.seq, outline.unix_us),
                    (view.session, view.seq, view.unix_us)
                );
                assert_eq!(
                    (outline.kind, outline.statement),
                    (view.body.kind(), view.body.statement())
                );
                let (head, reply) = outline.split(&record);
                assert_eq!([head, reply].concat(), record);
                match (&outline.what, &view.body) {
                    (
                        What::Statement(place),
                        BodyView::Statement {
                            verdict,
                            rule,
                            resources,
                            ..
                        },
                    ) => {
                        let tail = reader.tail(*place).unwrap();
                        assert_eq!((tail.verdict, tail.rule.as_str()), (*verdict, *rule));
                        assert_eq!(tail.resources, *resources);
                    }
                    (
                        What::StatementEnd { code },
                        BodyView::StatementEnd {
                            error, reply: bytes, ..
                        },
                    ) => {
                        assert_eq!(*code, error.as_ref().map(|e| e.code));
                        assert_eq!(reply, *bytes);
                    }
                    (
                        What::Prepared(place),
                        BodyView::Prepared {
                            verdict,
                            rule,
                            resources,
                            ..
                        },
                    ) => {
                        let tail = reader.tail(*place).unwrap();
                        assert_eq!((tail.verdict, tail.rule.as_str()), (*verdict, *rule));
                        assert_eq!(tail.resources, *resources);
                    }
                    (
                        What::Stream { direction },
                        BodyView::Stream {
                            bytes,
                            direction: way,
                            ..
                        },
                    ) => {
                        assert_eq!((direction, reply), (way, *bytes));
                    }
                    (What::Other(other), _) => {
                        assert_eq!(other.body, view.body);
                        odd += usize::from(matches!(
                            view.body,
                            BodyView::Statement { .. } | BodyView::StatementEnd { .. }
                        ));
                    }
                    _ => panic!("{outline:?} of {view:?}"),
                }
            }
        }
    }
    assert!(odd > 0, "no odd spelling was read");
}

#[test]
fn a_summary_by_outlines_is_the_summary_by_views() {
    let (mut made, mut plain) = (Made::default(), Summarizer::default());
    let mut sessions = Sessions::default();
    for chunk in 0..3 {
        for event in events() {
            let record = record_of(&event);
            made.add(&record);
            let view = EventView::read(&record).unwrap();
            let applied = sessions.apply(0, &Piece::of_view(&view, &record, &[]));
            plain.add(
                &view,
                applied.number,
                sessions.get(view.session).map(|live| &*live.facts),
            );
        }
        made.finish(chunk);
        sessions.close();
        let summary = made.summarizer.finish(chunk);
        assert_eq!(summary, plain.finish(chunk));
        assert_eq!(summary.resources, ["public.t", "public.u"]);
    }
}

#[test]
fn chains_go_on_over_chunks_and_verify_where_the_replies_are_gone() {
    let mut made = Made::default();
    let mut chunks = Vec::new();
    let last = Event {
        session: events()[4].session,
        seq: 99,
        unix_us: 5,
        body: Body::SessionLost { reason: "x".into() },
    };
    for number in 0..2 {
        // Without the ends of sessions: one chain over both chunks.
        let ends = |e: &Event| BodyView::kind(&EventView::read(&record_of(e)).unwrap().body).ends_session();
        for event in events()
            .iter()
            .filter(|e| !ends(e) && !matches!(e.body, Body::Recorder { .. }))
        {
            made.add(&record_of(event));
        }
        if number == 1 {
            made.add(&record_of(&last));
        }
        let ended = made.ended.clone();
        chunks.push((made.finish(number), ended));
    }
    assert_eq!(chunks[1].1.len(), 1);
    // With replies, without those of either chunk, and with a reply changed.
    for (gone, changed) in [(None, false), (Some(0), false), (Some(1), false), (None, true)] {
        let mut sessions = Sessions::default();
        let mut ended = Vec::new();
        for (number, (packed, _)) in chunks.iter().enumerate() {
            let chunk = Chunk::read(&packed.value).unwrap();
            let (rows, bodies) = (chunk.rows(&plain).unwrap(), chunk.bodies(&plain).unwrap());
            let mut replies = packed.replies.clone().unwrap();
            if changed {
                replies[0] ^= 1;
            }
            if gone == Some(number) {
                sessions.expect_erased(&rows.reply_hashes);
            }
            let (mut head, mut record) = (Vec::new(), Vec::new());
            for row in &rows.rows {
                row.head(&bodies, &mut head).unwrap();
                row.record_without_reply(&bodies, &mut record).unwrap();
                let view = EventView::read(&record).unwrap();
                let reply = if gone == Some(number) {
                    &[]
                } else {
                    row.reply(&replies).unwrap()
                };
                ended.extend(sessions.apply(0, &Piece::of_view(&view, &head, reply)).ended);
            }
            assert_eq!(sessions.close() == rows.reply_hashes, !changed);
        }
        assert_eq!(ended == chunks[1].1, !changed, "gone {gone:?} changed {changed}");
    }
}

#[test]
fn a_chunk_gives_back_every_record_byte_for_byte() {
    let mut made = Made::default();
    let mut records = Vec::new();
    for round in 0..50 {
        for mut event in events() {
            event.seq += round * 4;
            let mut record = Vec::new();
            encode(&event, &mut record);
            records.push(record);
        }
    }
    // A record whose sequence number is written in two bytes where one would do: postcard reads it, so it must come back.
    let mut odd = Vec::new();
    encode(
        &Event {
            session: SessionId(5),
            seq: 1,
            unix_us: 2,
            body: Body::SessionLost { reason: "x".into() },
        },
        &mut odd,
    );
    assert_eq!(odd[1], 1);
    odd.splice(1..2, [0x81, 0x00]);
    records.push(odd);
    for record in &records {
        made.add(record);
    }
    let ended = made.ended.clone();
    assert!(ended.iter().any(|e| (e.session, e.count) == (SessionId(5), 1)));
    let packed = made.finish(3);
    assert_eq!(made.builder.records(), 0);
    let chunk = Chunk::read(&packed.value).unwrap();
    assert_eq!((chunk.header.number, &chunk.header.ended), (3, &ended));
    let bodies = chunk.bodies(&plain).unwrap();
    let replies = chunk.replies(packed.replies.as_deref(), &plain).unwrap();
    let rows = chunk.rows(&plain).unwrap().rows;
    assert_eq!(rows.len(), records.len());
    let mut back = Vec::new();
    for (row, record) in rows.iter().zip(&records) {
        row.record(&bodies, &replies, &mut back).unwrap();
        assert_eq!(&back, record);
        let view = EventView::read(&back).unwrap();
        assert_eq!(
            (row.session, row.seq, row.unix_us, row.kind),
            (view.session, view.seq, view.unix_us, view.body.kind())
        );
    }
    assert_eq!(
        chunk.replies(None, &plain),
        Err(chunk::ChunkError::RepliesMissing)
    );
    let mut wrong = packed.replies.clone().unwrap();
    wrong[0] ^= 1;
    assert_eq!(
        chunk.replies(Some(&wrong), &plain),
        Err(chunk::ChunkError::RepliesHash)
    );
}

#[test]
fn a_damaged_chunk_is_refused_and_never_panics() {
    let mut made = Made::default();
    for event in events() {
        made.add(&record_of(&event));
    }
    let packed = made.finish(0);
    let touch = |value: &[u8]| {
        let Ok(chunk) = Chunk::read(value) else { return };
        let (Ok(rows), Ok(bodies)) = (chunk.rows(&plain), chunk.bodies(&plain)) else {
            return;
        };
        let mut out = Vec::new();
        for row in rows.rows {
            if row
                .record(&bodies, packed.replies.as_deref().unwrap_or_default(), &mut out)
                .is_ok()
            {
                let _ = EventView::read(&out);
            }
            if row.record_without_reply(&bodies, &mut out).is_ok() {
                let _ = EventView::read(&out);
            }
        }
    };
    for at in 0..packed.value.len() {
        touch(&packed.value[..at]);
        for flip in [1u8, 0x80, 0xff] {
            let mut damaged = packed.value.clone();
            damaged[at] ^= flip;
            touch(&damaged);
        }
    }
}

#[test]
fn a_chain_depends_on_every_record_their_order_the_links_and_the_session() {
    let head = |session: u128, links: &[&[(&[u8], &[u8])]]| {
        let mut chain = Chain::start(SessionId(session));
        for records in links {
            let mut link = chain.link();
            records.iter().for_each(|(record, reply)| link.add(record, reply));
            chain.close(link, None);
        }
        assert_eq!(chain.count as usize, links.iter().map(|l| l.len()).sum::<usize>());
        chain.head
    };
    let none: &[u8] = b"";
    let good = head(1, &[&[(b"a", none), (b"b", b"r"), (b"c", none)]]);
    assert_eq!(good, head(1, &[&[(b"a", none), (b"b", b"r"), (b"c", none)]]));
    assert_ne!(good, head(2, &[&[(b"a", none), (b"b", b"r"), (b"c", none)]]));
    assert_ne!(good, head(1, &[&[(b"a", none), (b"c", none), (b"b", b"r")]]));
    assert_ne!(good, head(1, &[&[(b"a", none), (b"b", b"r")]]));
    assert_ne!(good, head(1, &[&[(b"a", none), (b"bc", b"r")]]));
    assert_ne!(good, head(1, &[&[(b"a", none), (b"b", b"q"), (b"c", none)]]));
    assert_ne!(good, head(1, &[&[(b"a", none), (b"b", none), (b"c", none)]]));
    assert_ne!(good, head(1, &[&[(b"a", none)], &[(b"b", b"r"), (b"c", none)]]));
}
