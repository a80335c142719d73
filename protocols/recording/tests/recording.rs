//! The face of the crate: encodings agree, chunks give back what went in, hostile bytes are refused.

use headgate_plane::{Epoch, Parameter, QuestionDigest, SessionId, Who};
use headgate_recording::chain::Chain;
use headgate_recording::chunk::{Builder, Chunk, Ended, SpoolRange};
use headgate_recording::event::*;
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
        let list: Vec<Parameter> = values
            .iter()
            .map(|value| Parameter { type_oid: 25, format: 1, value: value.map(<[u8]>::to_vec) })
            .collect();
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

#[test]
fn a_chunk_gives_back_every_record_byte_for_byte() {
    let mut builder = Builder::default();
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
        builder.add(record, &EventView::read(record).unwrap());
    }
    let ended = vec![Ended { session: SessionId(5), count: 1, head: [3; 32] }];
    let spools = vec![SpoolRange { generation: 9, from: 0, to: 800 }];
    let packed = builder.finish(3, 77, spools, ended, &mut |b| Ok(b.to_vec())).unwrap();
    assert_eq!(builder.records(), 0);
    let chunk = Chunk::read(&packed.value).unwrap();
    assert_eq!(chunk.header.number, 3);
    let bodies = chunk.bodies(&plain).unwrap();
    let replies = chunk.replies(packed.replies.as_deref(), &plain).unwrap();
    let rows = chunk.rows(&plain).unwrap();
    assert_eq!(rows.len(), records.len());
    let mut back = Vec::new();
    for (row, record) in rows.iter().zip(&records) {
        row.record(if row.reply_hash.is_some() { &replies } else { &bodies }, &mut back).unwrap();
        assert_eq!(&back, record);
        let view = EventView::read(&back).unwrap();
        assert_eq!((row.session, row.seq, row.unix_us, row.kind), (view.session, view.seq, view.unix_us, view.body.kind()));
        assert_eq!(row.reply_hash.unwrap_or(chain::record_hash(record)), chain::record_hash(record));
    }
    assert_eq!(chunk.replies(None, &plain), Err(chunk::ChunkError::RepliesMissing));
    let mut wrong = packed.replies.clone().unwrap();
    wrong[0] ^= 1;
    assert_eq!(chunk.replies(Some(&wrong), &plain), Err(chunk::ChunkError::RepliesHash));
}

#[test]
fn a_damaged_chunk_is_refused_and_never_panics() {
    let mut builder = Builder::default();
    for event in events() {
        let mut record = Vec::new();
        encode(&event, &mut record);
        builder.add(&record, &EventView::read(&record).unwrap());
    }
    let packed = builder.finish(0, 1, vec![], vec![], &mut |b| Ok(b.to_vec())).unwrap();
    let touch = |value: &[u8]| {
        let Ok(chunk) = Chunk::read(value) else { return };
        let (Ok(rows), Ok(bodies)) = (chunk.rows(&plain), chunk.bodies(&plain)) else { return };
        let mut out = Vec::new();
        for row in rows {
            if row.record(&bodies, &mut out).is_ok() {
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
fn a_chain_depends_on_every_record_their_order_and_the_session() {
    let head = |session: u128, records: &[&[u8]]| {
        let mut chain = Chain::start(SessionId(session));
        records.iter().for_each(|r| chain.add(r));
        chain.head
    };
    let good = head(1, &[b"a", b"b", b"c"]);
    assert_eq!(good, head(1, &[b"a", b"b", b"c"]));
    assert_ne!(good, head(2, &[b"a", b"b", b"c"]));
    assert_ne!(good, head(1, &[b"a", b"c", b"b"]));
    assert_ne!(good, head(1, &[b"a", b"b"]));
    assert_ne!(good, head(1, &[b"a", b"bc"]));
}
