//! Judges a case that is over: what was recorded, what ran, what the client saw, what it would have seen without a gate.

use crate::lab::{Ruling, STATEMENT_BYTES_MAX, ruling};
use crate::message;
use crate::run::{ADDRESS, Fate, Over, ROGUE, Violation, fate, sent, violation};
use crate::server::{CANARY, Error, Moment, REFUSED, Server, Unit, What};
use crate::sql::Kind;
use headgate_recording::{Body, Outcome, RecordedError, Verdict};
use std::fmt::Write;

pub fn judge(over: &Over<'_>) -> Result<(), Violation> {
    if over.server.crashed {
        return violation("crash: the gate let through what kills a server", over.read);
    }
    secrets(over)?;
    executed(over)?;
    if over.misled {
        return Ok(());
    }
    replies(over)
}

/// Nothing that a mask covers, and nothing that was not owed, reached the client.
fn secrets(over: &Over<'_>) -> Result<(), Violation> {
    if memchr::memmem::find(over.received, ROGUE.as_bytes()).is_some() {
        return violation(
            "misled: bytes of a reply that was not owed reached the client",
            shown(over.received),
        );
    }
    if over.case.masked && memchr::memmem::find(over.received, CANARY.as_bytes()).is_some() {
        return violation("masked: a covered value reached the client", shown(over.received));
    }
    Ok(())
}

struct Recorded<'e> {
    /// Place among the events.
    at: usize,
    number: u32,
    text: &'e [u8],
    stands_for: &'e [Vec<u8>],
    verdict: Verdict,
}

/// Everything that ran was judged under the text that ran, in that order, and recorded before it left.
fn executed(over: &Over<'_>) -> Result<(), Violation> {
    let mut recorded = Vec::new();
    for (at, event) in over.events.iter().enumerate() {
        if event.seq as usize != at {
            return violation(
                "recorded: events are not dense",
                format!("event {at} has number {}", event.seq),
            );
        }
        if let Body::Statement {
            statement,
            text,
            stands_for,
            verdict,
            ..
        } = &event.body
        {
            recorded.push(Recorded {
                at,
                number: *statement,
                text,
                stands_for,
                verdict: *verdict,
            });
        }
    }
    let mut from = 0;
    for unit in &over.server.units {
        if unit.what == What::Call {
            continue;
        }
        let Some(left) = over.left.get(unit.message) else {
            return violation("model: a unit without a message", format!("{unit:?}"));
        };
        // PREPARE's own text can be the whole, or the part that it prepares.
        let tells = |record: &Recorded<'_>, inner: &[u8]| {
            memchr::memmem::find(record.text, inner).is_some()
                || record
                    .stands_for
                    .iter()
                    .any(|s| s == inner || memchr::memmem::find(s, inner).is_some())
        };
        let all = |r: &Recorded<'_>| unit.stood_for.iter().all(|inner| tells(r, inner));
        // One with the same text may have come to nothing before it.
        let told = recorded.iter().skip(from).any(|r| is_of(r, unit) && all(r));
        let found = recorded.iter().skip(from).position(|r| {
            r.at < left.events
                && is_of(r, unit)
                && (!told || all(r))
                && (r.verdict == Verdict::Allow || approved_at(over, r.number) < left.events)
        });
        let text = String::from_utf8_lossy(&unit.text);
        match found {
            Some(n) => {
                from += n + usize::from(unit.what != What::Cursor);
                let record = &recorded[from - usize::from(unit.what != What::Cursor)];
                if let Some(inner) = unit.stood_for.iter().find(|inner| !tells(record, inner)) {
                    let inner = String::from_utf8_lossy(inner);
                    return violation(
                        "executed: EXECUTE ran what its record does not tell",
                        format!("{inner} by {text}"),
                    );
                }
                for kind in &unit.ran {
                    match ruling(left.rules, *kind) {
                        Ruling::Allow => {}
                        Ruling::Deny => {
                            return violation("executed: it was denied", format!("{kind:?} by {text}"));
                        }
                        Ruling::Hold
                            if approved_at(over, record.number) < left.events
                                && over.approved.contains(&record.number) => {}
                        Ruling::Hold => {
                            return violation(
                                "executed: it was held, and nobody approved it",
                                format!("{kind:?} by {text}"),
                            );
                        }
                    }
                }
                // Only where one statement alone has this text can its end be told from another's.
                if recorded.iter().filter(|r| is_of(r, unit)).count() == 1 {
                    ending(over, record, unit)?;
                }
            }
            // What SQL declared is read by Execute: its text was judged with the DECLARE.
            None if unit.what == What::Cursor && recorded.iter().any(|r| is_of(r, unit)) => {}
            None if unit.ran.is_empty() => {}
            None => {
                let mut seen = String::new();
                for r in &recorded {
                    let _ = write!(
                        seen,
                        "\n        {} {:?} {:?}",
                        r.number,
                        r.verdict,
                        String::from_utf8_lossy(r.text)
                    );
                }
                return violation(
                    "executed: not judged under this text before it left",
                    format!("{text}; recorded:{seen}"),
                );
            }
        }
    }
    Ok(())
}

/// Whether a record speaks of this: under its own text, or under the whole of which it is a part.
fn is_of(record: &Recorded<'_>, unit: &Unit) -> bool {
    record.text == &unit.text[..] || record.text == &unit.source[..]
}

/// Where the approval of a statement was recorded; behind everything if it was not.
fn approved_at(over: &Over<'_>, number: u32) -> usize {
    let answered = |event: &headgate_recording::Event| matches!(&event.body, Body::Answered { statement, outcome: Outcome::Approved, .. } if *statement == number);
    over.events.iter().position(answered).unwrap_or(usize::MAX)
}

/// The recorded end of a statement is what the server did for it.
fn ending(over: &Over<'_>, record: &Recorded<'_>, unit: &Unit) -> Result<(), Violation> {
    let ended: Vec<(&String, &Option<RecordedError>)> = over
        .events
        .iter()
        .filter_map(|event| match &event.body {
            Body::StatementEnd {
                statement,
                tag,
                error,
                ..
            } if *statement == record.number => Some((tag, error)),
            _ => None,
        })
        .collect();
    if over.ended || over.misled || !over.server.is_idle() || !over.server.unsent.is_empty() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(record.text);
    // What never began may end with whatever stopped it.
    let again = unit.executions > usize::from(unit.what != What::Query);
    if again || unit.ran.is_empty() {
        return Ok(());
    }
    if ended.is_empty() && unit.tags.is_empty() && unit.error.is_none() {
        return violation(
            "recorded: a statement read in part has no end",
            String::from_utf8_lossy(record.text),
        );
    }
    let [(tag, error)] = ended[..] else {
        return violation(
            "recorded: a statement has not one end",
            format!("{text}: {} ends", ended.len()),
        );
    };
    let did = format!(
        "{text}: recorded {tag:?} {error:?}; the server: {:?} {:?}",
        unit.tags, unit.error
    );
    match (error, unit.error) {
        (Some(recorded), Some(code)) if recorded.code == code => Ok(()),
        (None, None) if tag.is_empty() || unit.tags.contains(tag) => {
            if tag.is_empty() && unit.what == What::Query && unit.tags.len() == 1 {
                return violation("recorded: an end without the tag", did);
            }
            Ok(())
        }
        // Its answer was never sent, or came when nobody listened any more.
        (Some(recorded), _) if recorded.code == "08006" => Ok(()),
        // A pipeline's or a query's effects can be undone by what comes behind: its own end stands.
        _ => violation("recorded: the end is not what the server did", did),
    }
}

/// Whether the client's view can be compared with one that has no gate in between.
pub fn is_comparable(over: &Over<'_>) -> bool {
    let rules = over
        .case
        .steps
        .iter()
        .any(|s| matches!(s, crate::Step::Rules(n) if *n != over.case.rules));
    // A gate that masks describes for itself.
    let described = over.case.masked
        && sent(over.case).any(|m| matches!(m, message::Message::Query(t) | message::Message::Parse { text: t, .. } if memchr::memmem::find(t, b"!describe").is_some()));
    let gone = over.case.steps.contains(&crate::Step::Gone);
    !rules && !over.cancelled && !over.misled && !described && !gone
}

/// The same client at the same server without a gate, but with the same refusals.
fn reference(over: &Over<'_>, keeps_unnamed: bool) -> (Server, bool) {
    let mut server = Server::new(over.manual);
    server.keeps_unnamed = keeps_unnamed;
    server.guarded = true;
    let (rules, seed, masked) = (over.case.rules, over.case.seed, over.case.masked);
    server.refuse = Some(Box::new(move |moment: Moment, text: &[u8], kind: Kind| {
        let refused = Some(Error::new(REFUSED, ""));
        if moment == Moment::Query && text.len() > STATEMENT_BYTES_MAX {
            return refused;
        }
        if moment == Moment::Call && masked {
            // What a function returns cannot be masked.
            return refused;
        }
        match (ruling(rules, kind), moment) {
            (Ruling::Deny, _) => refused,
            (Ruling::Hold, Moment::Query | Moment::Bind) if fate(seed, text) != Fate::Approved => refused,
            _ => None,
        }
    }));
    let mut violates = false;
    let mut bytes = Vec::new();
    // COPY's data has come, and nothing that ends it: nobody but the server can tell whether it has failed by now, and so
    // whether it will answer a Sync.
    let mut amid_data = false;
    for message in sent(over.case) {
        if server.ended {
            break;
        }
        match message {
            message::Message::CopyData(_) if server.copies_in() => amid_data = true,
            message::Message::CopyData(_) | message::Message::Flush => {}
            message::Message::CopyDone | message::Message::CopyFail => amid_data = false,
            _ => {
                violates |= amid_data;
                amid_data = false;
            }
        }
        violates |= matches!(message, message::Message::Raw(..) | message::Message::Terminate);
        bytes.clear();
        message.encode(&mut bytes);
        if let Some((tag, body, _)) = message::first(&bytes) {
            server.message(tag, body);
        }
        while server.sleeps() {
            server.wake();
        }
    }
    // A FATAL of the server's own, or a setting turned.
    violates |=
        server.ended || memchr::memmem::find(&server.out, b"standard_conforming_strings\0off").is_some();
    (server, violates)
}

/// What is compared of a stream: everything but what comes unasked.
fn comparable(bytes: &[u8]) -> Vec<(u8, &[u8])> {
    message::all(bytes)
        .filter(|(tag, _)| !matches!(tag, b'N' | b'S' | b'A'))
        .collect()
}

fn replies(over: &Over<'_>) -> Result<(), Violation> {
    if !is_comparable(over) {
        return Ok(());
    }
    // A server drops the unnamed statement for a query that fails. One that the gate refuses may never have come to it.
    compared(over, true).or_else(|violation| compared(over, false).map_err(|_| violation))
}

fn compared(over: &Over<'_>, keeps_unnamed: bool) -> Result<(), Violation> {
    let (direct, may_end) = reference(over, keeps_unnamed);
    // What a server has not sent yet, a gate may have asked it for.
    let owed = comparable(&direct.out).len();
    let said = [&direct.out[..], &direct.unsent].concat();
    let (got, expected) = (comparable(over.received), comparable(&said));
    let mut at = 0;
    while let (Some(one), Some(other)) = (got.get(at), expected.get(at)) {
        if same(over, *one, *other) {
            at += 1;
        } else if is_missed(*one, *other) {
            // The gate skips to Sync from here on, and the server does not: what follows cannot be compared.
            return Ok(());
        } else {
            break;
        }
    }
    let rest = &got[at..];
    let difference = || {
        let tags = |all: &[(u8, &[u8])]| all.iter().map(|(tag, _)| char::from(*tag)).collect::<String>();
        let next = |all: &[(u8, &[u8])]| {
            all.get(at)
                .map(|(tag, body)| format!("{} {}", char::from(*tag), shown(body)))
        };
        format!(
            "same up to {at} of {} / {}; the server read {}\n      got {:?}\n      not {:?}",
            tags(&got),
            tags(&expected),
            over.read,
            next(&got),
            next(&expected)
        )
    };
    let covered = over.case.masked
        && matches!(
            (got.get(at), expected.get(at)),
            (Some((b'D', _)), Some((b'D', _))) | (Some((b'd', _)), Some((b'd', _)))
        );
    if covered {
        return violation("masked: more than the covered values", difference());
    }
    if over.ended {
        // Our own last words may follow what the client has seen so far.
        let last_words = rest.is_empty() || rest.len() == 1 && rest[0].0 == b'E';
        let reason = over.events.iter().rev().find_map(|e| match &e.body {
            Body::SessionClose { reason, .. } => Some(reason.as_str()),
            _ => None,
        });
        if !last_words {
            return violation(
                "replies: before it was ended, the client saw something else",
                difference(),
            );
        }
        if !may_end {
            return violation(
                "ended: nothing that the client did asks for it",
                format!("{reason:?}; {}", difference()),
            );
        }
        return Ok(());
    }
    if over.held {
        if !rest.is_empty() {
            return violation("replies: the client saw something else", difference());
        }
        return Ok(());
    }
    if at < got.len() {
        return violation("replies: the client saw something else", difference());
    }
    if at < owed {
        return violation(
            "hang: replies are missing, and nothing moves",
            format!("{}; {} bytes of the client unread", difference(), over.unread),
        );
    }
    if direct.committed != over.server.committed {
        return violation(
            "effects: another outcome",
            format!(
                "{:?} without a gate, {:?} with it",
                direct.committed, over.server.committed
            ),
        );
    }
    Ok(())
}

/// What a Bind that failed at a value left behind is an empty query to the server, and nothing to the gate. And of a FETCH whose
/// cursor may have gone nobody may ask how its rows look, since that can kill a server: the gate refuses in doubt.
fn is_missed(got: (u8, &[u8]), expected: (u8, &[u8])) -> bool {
    // Version 18 has lost sight of a transaction: whatever starts the next one fails, what is refused as well. What the gate
    // refused by itself has not gone there, and the next statement fails instead.
    if got.0 == b'E' && message::report_field(expected.1, b'C') == Some(b"XX000") {
        return got.1 != expected.1;
    }
    // Of a name that a commit which failed has left in doubt nothing runs, whatever the server has under it.
    if got.0 == b'E' && memchr::memmem::find(got.1, b"under this name cannot be told").is_some() {
        return true;
    }
    // By design: an Execute of a cursor cannot be held, and says what can.
    if got.0 == b'E' && memchr::memmem::find(got.1, b"Read this cursor with FETCH").is_some() {
        return true;
    }
    // A Query that fails at once leaves the portal without a name as it was; to the gate it has gone.
    let rolls_back = expected.0 == b'C' && expected.1 == b"ROLLBACK\0";
    (rolls_back || matches!(expected.0, b'I' | b'n' | b't' | b'T'))
        && got.0 == b'E'
        && message::report_field(got.1, b'C') == Some(b"34000")
}

fn same(over: &Over<'_>, got: (u8, &[u8]), expected: (u8, &[u8])) -> bool {
    if got.0 != expected.0 {
        return false;
    }
    match got.0 {
        b'E' => {
            let code = |body| message::report_field(body, b'C').unwrap_or_default();
            let (of_gate, of_server) = (code(got.1), code(expected.1));
            // What the server cannot parse the gate cannot either, and says so in its own words.
            of_gate == of_server
                || of_server == REFUSED.as_bytes()
                || of_server == b"42601"
                // A name that a failed query has left in doubt is asked about as what it may stand for.
                || of_server == b"25P02" && of_gate.starts_with(b"HG")
                // A portal that cannot run again, and one that is not there, are alike to a client: nothing can be had of it.
                || matches!(of_server, b"25P02" | b"55000" | b"3B001") && of_gate == b"34000"
                // Nothing can be had of it either: what it stood for is gone, and perhaps the portal with it.
                || matches!(of_server, b"25P02" | b"34000" | b"26000") && of_gate == b"HG004"
        }
        b'T' if over.real => got.1.get(..2) == expected.1.get(..2),
        b'D' | b'd' if over.case.masked && memchr::memmem::find(expected.1, CANARY.as_bytes()).is_some() => {
            true
        }
        _ => got.1 == expected.1,
    }
}

/// Our notices say where the question is.
pub fn is_ours(tag: u8, body: &[u8]) -> bool {
    tag == b'N' && memchr::memmem::find(body, ADDRESS.as_bytes()).is_some()
}

pub fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "·")
}
