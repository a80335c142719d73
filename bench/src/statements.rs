//! Statements as a client sends them, and the events that they become.

use headgate_plane::{Epoch, Parameter, ParameterKind, Protocol, SessionId, Who};
use headgate_postgres::write;
use headgate_recording::{Body, Event, StatementOutcome, Verdict};
use headgate_sql::Facts;

pub const POINT: &str = "SELECT id, name, email, note FROM customers WHERE id = $1";
pub const POINT_LITERAL: &str = "SELECT id, name, email, note FROM customers WHERE id = 4711";
pub const JOIN: &str = "SELECT c.name, sum(o.total) AS spent FROM public.customers c JOIN public.orders o ON o.customer_id = c.id \
                        WHERE o.placed_at >= '2026-01-01' AND c.region IN ('north', 'south') GROUP BY c.name HAVING sum(o.total) > 1000 \
                        ORDER BY spent DESC LIMIT 50";

/// Bind, Execute, Sync, `count` times: what a prepared statement sends.
pub fn prepared(count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for n in 0..count {
        let id = (4711 + n).to_string();
        write::bind(
            &mut out,
            b"",
            b"point_read",
            &[],
            std::iter::once(Some(id.as_bytes())),
            &[],
        )
        .expect("a short message");
        write::execute(&mut out, b"", 0).expect("a short message");
        write::sync(&mut out);
    }
    out
}

/// A Bind with eight parameters, two of them binary, one NULL.
pub fn wide_bind() -> Vec<u8> {
    let values: [Option<&[u8]>; 8] = [
        Some(b"4711"),
        Some(&[0, 0, 0, 7]),
        Some(b"Ada Lovelace"),
        None,
        Some(b"2026-11-21"),
        Some(&[0; 8]),
        Some(b"north"),
        Some(b"t"),
    ];
    let mut out = Vec::new();
    write::bind(
        &mut out,
        b"",
        b"wide",
        &[0, 1, 0, 0, 0, 1, 0, 0],
        values.into_iter(),
        &[1],
    )
    .expect("a short message");
    out
}

pub fn facts(text: &str) -> Facts {
    headgate_sqlparse::facts(text).expect("it is SQL")
}

pub fn who() -> Who {
    Who {
        principal: "alice".to_owned(),
        groups: vec!["analysts".to_owned()],
        chain: Vec::new(),
        issuer: "local".to_owned(),
        address: "127.0.0.1".to_owned(),
        application: "loadtest".to_owned(),
    }
}

pub fn session(number: u128) -> SessionId {
    SessionId::v7(1_795_000_000_000, number)
}

/// What point reads become, of `sessions` sessions in turn: each opens, then asks `statements` times.
pub fn events(sessions: u32, statements: u32) -> Vec<Event> {
    let mut all = Vec::new();
    let event = |session: u32, seq: u32, body: Body| Event {
        session: self::session(u128::from(session) + 1),
        seq,
        unix_us: 1_795_000_000_000_000 + u64::from(seq) * 1_000 + u64::from(session),
        body,
    };
    for session in 0..sessions {
        let open = Body::SessionOpen {
            who: who(),
            target: "bench".to_owned(),
            environment: "production".to_owned(),
            role: "bench".to_owned(),
            credential_id: "tk-1".to_owned(),
            epoch: Epoch(1),
            protocol: Protocol::Postgres,
            target_session: "4660".to_owned(),
        };
        all.push(event(session, 0, open));
    }
    for n in 0..statements {
        for session in 0..sessions {
            let [asked, ended] = statement(n + 1);
            all.push(event(session, 2 * n + 1, asked));
            all.push(event(session, 2 * n + 2, ended));
        }
    }
    all
}

/// A point read and its end with a reply of some 300 bytes.
pub fn statement(number: u32) -> [Body; 2] {
    let reply = crate::replies::point(1);
    [
        Body::Statement {
            statement: number,
            prepared: 1,
            text: POINT.as_bytes().to_vec(),
            stands_for: Vec::new(),
            parameters: vec![Parameter {
                kind: ParameterKind::Postgres {
                    type_oid: 23,
                    format: 0,
                },
                value: Some(b"4711".to_vec()),
            }],
            verdict: Verdict::Allow,
            rule: "analysts read".to_owned(),
            epoch: Epoch(1),
            class: 1,
            verbs: vec!["select".to_owned()],
            resources: vec!["public.customers".to_owned()],
        },
        Body::StatementEnd {
            statement: number,
            outcome: StatementOutcome::Done,
            duration_us: 180,
            rows: 1,
            bytes: reply.len() as u64,
            tag: "SELECT 1".to_owned(),
            error: None,
            masked: 1,
            truncated: false,
            reply,
        },
    ]
}
