//! The face of the crate: encodings agree, chunks give back what went in, hostile bytes are refused.

use headgate_plane::{Epoch, Parameter, QuestionDigest, SessionId, Who};
use headgate_recording::chain::Chain;
use headgate_recording::chunk::{About, Builder, Chunk, Ended, SpoolRange};
use headgate_recording::event::*;
use headgate_recording::sessions::{Piece, Sessions};
use headgate_recording::summary::Summarizer;
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

fn bodies() -> Vec<Body> {
    vec![
        Body::SessionOpen {
            who: who(),
            target: "orders".into(),
            environment: "production".into(),
            role: "orders_app".into(),
            credential_id: "t-1".into(),
            epoch: Epoch(7),
            protocol: "postgres".into(),
            target_pid: 4711,
        },
        Body::SignInRefused { target: "x".into(), user: "u".into(), address: "::1".into(), reason: "no".into() },
        Body::Statement {
            statement: 1,
            text: b"select \xff from t where id = $1".to_vec(),
            parameters: vec![
                Parameter { type_oid: 23, format: 0, value: Some(b"42".to_vec()) },
                Parameter { type_oid: 0, format: 1, value: None },
            ],
            verdict: Verdict::Hold,
            rule: "r".into(),
            epoch: Epoch(u64::MAX),
            class: 3,
            verbs: vec!["select".into()],
            relations: vec!["public.t".into(), "public.u".into()],
        },
        Body::Answered {
            statement: 1,
            question: 17,
            outcome: Outcome::Approved,
            reviewers: vec!["bob".into()],
            reason: "ok".into(),
            digest: QuestionDigest([9; 32]),
        },
        Body::ReplyPart { statement: 1, bytes: vec![0, 1, 2, 255] },
        Body::StatementEnd {
            statement: 1,
            duration_us: 12,
            rows: 3,
            bytes: 400,
            tag: "SELECT 3".into(),
            error: Some(RecordedError { sqlstate: "42P01".into(), message: "relation is not there".into() }),
            masked: 2,
            truncated: true,
            reply: vec![b'C', 0, 255],
        },
        Body::SessionClose { reason: "client".into(), statements: 1, bytes_from_client: 5, bytes_to_client: 6 },
        Body::SessionLost { reason: "gone".into() },
        Body::Recorder(RecorderNote::Stopped),
        Body::Admin { who: who(), action: "rules.apply".into(), subject: "rules.toml".into(), detail: "".into(), accepted: true },
    ]
}

fn events() -> Vec<Event> {
    let mut events = Vec::new();
    for (n, body) in bodies().into_iter().enumerate() {
        let session = SessionId::v7(1_795_000_000_000 + n as u64 % 3, u128::MAX / 3 + n as u128 % 3);
        events.push(Event { session, seq: n as u32 / 3, unix_us: 1_795_000_000_000_000 + (n as u64 * 7919) % 13, body });
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
        assert_eq!((view.session, view.seq, view.unix_us), (event.session, event.seq, event.unix_us));
        if let Some(borrowed) = event.borrowed() {
            assert_eq!(postcard_of(&event), owned);
            let mut room = vec![0; borrowed.size_bound()];
            let used = encode_into(&borrowed, &mut room).unwrap();
            assert_eq!(room[..used], owned);
            assert_eq!(encode_into(&borrowed, &mut room[..used - 1]), Err(CodecError::NoRoom));
        }
        for cut in 0..owned.len() {
            assert!(decode(&owned[..cut]).is_err() && EventView::read(&owned[..cut]).is_err());
        }
        owned.push(0);
        assert_eq!(decode(&owned), Err(CodecError::Trailing { bytes: 1 }));
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
            take(ParameterView { type_oid: 25, format: 1, value: *value });
        }
    }
}

#[test]
fn parameters_are_recorded_where_they_lie_and_long_ones_are_cut() {
    let long = vec![7u8; 100 << 10];
    for values in [vec![], vec![Some(&b"a"[..]), None, Some(b"")], vec![Some(&long[..]), Some(b"b"), None, Some(&long[..]), Some(b"c")]] {
        let list: Vec<Parameter> =
            values.iter().map(|value| Parameter { type_oid: 25, format: 1, value: value.map(<[u8]>::to_vec) }).collect();
        let bound = Bound(values.clone());
        let written = |parameters: Parameters<'_>| {
            let body = BodyRef::Statement {
                statement: 1,
                text: Bytes(b"select $1"),
                parameters,
                verdict: Verdict::Allow,
                rule: "r",
                epoch: Epoch(1),
                class: 1,
                verbs: &[],
                relations: &[],
            };
            let event = EventRef { session: SessionId(7), seq: 0, unix_us: 1, body };
            let mut room = vec![0; event.size_bound()];
            let used = encode_into(&event, &mut room).unwrap();
            room.truncate(used);
            room
        };
        let bytes = written(Parameters::Source(&bound));
        assert_eq!(bytes, written(Parameters::List(&list)));
        let BodyView::Statement { parameters, .. } = EventView::read(&bytes).unwrap().body else { panic!() };
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
        for id in [1u128 << shift, (1 << shift) - 1, u128::MAX >> shift, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef >> shift] {
            let n = id as u64;
            let body = Body::StatementEnd {
                statement: n as u32,
                duration_us: n,
                rows: n.rotate_left(13),
                bytes: !n,
                tag: "x".repeat(shift),
                error: None,
                masked: n / 3,
                truncated: false,
                reply: vec![],
            };
            let event = Event { session: SessionId(id), seq: !n as u32, unix_us: n, body };
            assert_eq!(record_of(&event), postcard_of(&event));
        }
    }
}

#[test]
fn the_bound_covers_numbers_at_their_longest() {
    let reason = String::new();
    let bodies = [
        BodyRef::StatementEnd {
            statement: u32::MAX,
            duration_us: u64::MAX,
            rows: u64::MAX,
            bytes: u64::MAX,
            tag: "",
            error: None,
            masked: u64::MAX,
            truncated: true,
            reply: Bytes(&[]),
        },
        BodyRef::SessionClose { reason: &reason, statements: u32::MAX, bytes_from_client: u64::MAX, bytes_to_client: u64::MAX },
        BodyRef::Answered {
            statement: u32::MAX,
            question: u64::MAX,
            outcome: Outcome::Withdrawn,
            reviewers: &[],
            reason: "",
            digest: QuestionDigest([255; 32]),
        },
    ];
    for body in bodies {
        let event = EventRef { session: SessionId(u128::MAX), seq: u32::MAX, unix_us: u64::MAX, body };
        let mut room = vec![0; event.size_bound()];
        encode_into(&event, &mut room).unwrap();
    }
}

fn plain(bytes: &[u8], len: usize) -> Option<Vec<u8>> {
    (bytes.len() == len).then(|| bytes.to_vec())
}

/// A chunk of records as the recorder makes it, with the sessions' side of it.
#[derive(Default)]
struct Made {
    builder: Builder,
    reader: Reader,
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
        self.summarizer.add_outline(&outline, &mut self.reader, applied.number, facts);
        self.ended.extend(applied.ended);
    }

    fn finish(&mut self, number: u64) -> chunk::Packed {
        let reply_hashes = self.sessions.close();
        let spools = vec![SpoolRange { generation: 9, from: 0, to: 800 }];
        let about = About { number, run: 77, spools, ended: std::mem::take(&mut self.ended), reply_hashes };
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
    let mut reader = Reader::default();
    let mut records: Vec<Vec<u8>> = events().iter().map(record_of).collect();
    // Ids of all lengths.
    for shift in [0, 1, 7, 62, 63, 64, 120, 127] {
        for body in bodies().into_iter().take(6) {
            records.push(record_of(&Event { session: SessionId(1 << shift), seq: u32::MAX, unix_us: 1 << (shift % 64), body }));
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
                assert_eq!((outline.session, outline.seq, outline.unix_us), (view.session, view.seq, view.unix_us));
                assert_eq!((outline.kind, outline.statement), (view.body.kind(), view.body.statement()));
                let (head, reply) = outline.split(&record);
                assert_eq!([head, reply].concat(), record);
                match (&outline.what, &view.body) {
                    (What::Statement(place), BodyView::Statement { verdict, rule, relations, .. }) => {
                        let tail = reader.tail(*place).unwrap();
                        assert_eq!((tail.verdict, tail.rule.as_str()), (*verdict, *rule));
                        assert_eq!(tail.relations, *relations);
                    }
                    (What::StatementEnd { sqlstate }, BodyView::StatementEnd { error, reply: bytes, .. }) => {
                        assert_eq!(*sqlstate, error.as_ref().map(|e| e.sqlstate));
                        assert_eq!(reply, *bytes);
                    }
                    (What::ReplyPart, BodyView::ReplyPart { bytes, .. }) => assert_eq!(reply, *bytes),
                    (What::Other(other), _) => {
                        assert_eq!(other.body, view.body);
                        odd += usize::from(matches!(view.body, BodyView::Statement { .. } | BodyView::StatementEnd { .. }));
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
            plain.add(&view, applied.number, sessions.get(view.session).map(|live| &*live.facts));
        }
        made.finish(chunk);
        sessions.close();
        let summary = made.summarizer.finish(chunk);
        assert_eq!(summary, plain.finish(chunk));
        assert_eq!(summary.relations, ["public.t", "public.u"]);
    }
}

#[test]
fn chains_go_on_over_chunks_and_verify_where_the_replies_are_gone() {
    let mut made = Made::default();
    let mut chunks = Vec::new();
    let last = Event { session: events()[4].session, seq: 99, unix_us: 5, body: Body::SessionLost { reason: "x".into() } };
    for number in 0..2 {
        // Without the ends of sessions: one chain over both chunks.
        let ends = |e: &Event| BodyView::kind(&EventView::read(&record_of(e)).unwrap().body).ends_session();
        for event in events().iter().filter(|e| !ends(e) && !matches!(e.body, Body::Recorder(_))) {
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
                let reply = if gone == Some(number) { &[] } else { row.reply(&replies).unwrap() };
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
    encode(&Event { session: SessionId(5), seq: 1, unix_us: 2, body: Body::SessionLost { reason: "x".into() } }, &mut odd);
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
        assert_eq!((row.session, row.seq, row.unix_us, row.kind), (view.session, view.seq, view.unix_us, view.body.kind()));
    }
    assert_eq!(chunk.replies(None, &plain), Err(chunk::ChunkError::RepliesMissing));
    let mut wrong = packed.replies.clone().unwrap();
    wrong[0] ^= 1;
    assert_eq!(chunk.replies(Some(&wrong), &plain), Err(chunk::ChunkError::RepliesHash));
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
        let (Ok(rows), Ok(bodies)) = (chunk.rows(&plain), chunk.bodies(&plain)) else { return };
        let mut out = Vec::new();
        for row in rows.rows {
            if row.record(&bodies, packed.replies.as_deref().unwrap_or_default(), &mut out).is_ok() {
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
