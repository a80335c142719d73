//! A whole conversation made of bytes: they decide who speaks, how long, and where it is cut. The body of a fuzz target,
//! also run by `tests/corpus.rs` over a committed corpus.
//!
//! The first byte chooses rules, masks and version; then come moves, of one byte each and what belongs to it:
//!
//! | byte | move |
//! | --- | --- |
//! | 0x00–0x7f | so many bytes of the client's (one at least), which follow |
//! | 0x80–0xbf | the target reads one message, and so many eighths of its replies (1 to 8, by the low bits) reach the gate |
//! | 0xc0–0xcf | so many bytes of a target that says what it likes, which follow |
//! | 0xd0 … | the oldest question is approved, denied, revoked; a cancel; other rules; time; the client goes; all comes to rest |

use crate::generate::{Case, Step};
use crate::lab::{Lab, Ruling, ruling};
use crate::message::Message;
use crate::run::{Run, manual};
use crate::sql::{self, Kind};
use headgate_plane::Answer;
use headgate_recording::{Body, Outcome, Verdict};
use std::cell::RefCell;

thread_local! {
    static LAB: RefCell<Lab> = RefCell::new(Lab::new());
}

/// Moves of one conversation: a longer input is not looked at any further.
const MOVES_MAX: usize = 4096;

/// Takes so many bytes off, or as many as there are.
fn take<'d>(data: &mut &'d [u8], n: usize) -> &'d [u8] {
    let (head, rest) = data.split_at(n.min(data.len()));
    *data = rest;
    head
}

/// Whatever both say: no panic, nothing after the end, nothing denied or unanswered on its way to the target, no event missing.
/// Returns how many messages left for the target, by which a test knows that something happened at all.
pub fn fuzz_conversation(mut data: &[u8]) -> usize {
    let Some((first, rest)) = data.split_first() else {
        return 0;
    };
    data = rest;
    let case = Case {
        seed: 0,
        rules: usize::from(first % 3),
        masked: first & 0x40 != 0,
        newest: first & 0x80 != 0,
        steps: Vec::new(),
    };
    LAB.with_borrow_mut(|lab| {
        lab.clean();
        let mut run = Run::new(lab, &case, manual(&case));
        assert!(run.sign_in().is_ok(), "a sign-in of its own succeeds");
        let mut moves = 0;
        while let Some((&byte, rest)) = data.split_first() {
            moves += 1;
            if run.session.is_ended() || moves > MOVES_MAX {
                break;
            }
            data = rest;
            one_move(&mut run, byte, &mut data);
            run.pump();
        }
        let ended = run.session.is_ended();
        run.pump();
        let before = run.to_target.len();
        if !ended {
            run.session.client_ended(&mut run.lab.core);
            run.last_words();
        }
        run.pump();
        assert!(
            !ended || run.to_target.len() == before,
            "nothing goes on after the end"
        );
        let (lab, events) = (&mut *run.lab, &mut run.events);
        lab.recorded(events);
        check(&run);
        run.forwarded
    })
}

fn one_move(run: &mut Run<'_>, byte: u8, data: &mut &[u8]) {
    match byte {
        0x00..=0x7f => {
            let bytes = take(data, usize::from(byte).max(1)).to_vec();
            if run.session.wants_client(64 << 10) {
                run.session.client_bytes(&mut run.lab.core, &bytes);
            }
        }
        0x80..=0xbf => {
            if run.server.sleeps() {
                run.server.wake();
            } else if !run.server.ended {
                run.read_one();
            }
            let n = run.server.out.len().div_ceil(8) * (usize::from(byte & 7) + 1);
            deliver(run, n);
        }
        0xc0..=0xcf => {
            let bytes = take(data, usize::from(byte & 15).max(1)).to_vec();
            run.session.target_bytes(&mut run.lab.core, &bytes);
        }
        0xd0..=0xd2 if !run.questions.is_empty() => {
            let (question, _) = run.questions.remove(0);
            let answer = match byte {
                0xd0 => {
                    run.approved.push(question.key.statement);
                    Answer::Approved {
                        reviewers: vec!["bob".to_owned()],
                        digest: question.digest,
                    }
                }
                0xd1 => Answer::Denied {
                    reviewer: "bob".to_owned(),
                    reason: "not today".to_owned(),
                },
                _ => Answer::Revoked { by: "bob".to_owned() },
            };
            run.session.answered(&mut run.lab.core, question.key, answer);
        }
        0xd3 => run.cancel(),
        0xd4..=0xd6 => {
            run.rules = usize::from(byte - 0xd4);
            run.lab.set_rules(run.rules, run.case.masked);
            run.session.snapshot_changed(&mut run.lab.core);
        }
        0xd7 => {
            run.lab.core.clock.now_us += 61_000_000;
            run.session.tick(&mut run.lab.core);
        }
        0xd8 => run.session.client_ended(&mut run.lab.core),
        _ => {
            for _ in 0..64 {
                run.load();
                let read = !run.server.sleeps() && !run.server.ended && run.read_one();
                run.server.wake();
                let n = run.server.out.len();
                deliver(run, n);
                run.pump();
                if !read && n == 0 {
                    break;
                }
            }
        }
    }
}

fn deliver(run: &mut Run<'_>, n: usize) {
    let n = n.min(run.server.out.len());
    if n > 0 && run.session.wants_target() {
        let bytes: Vec<u8> = run.server.out.drain(..n).collect();
        run.session.target_bytes(&mut run.lab.core, &bytes);
    }
}

fn check(run: &Run<'_>) {
    for (at, event) in run.events.iter().enumerate() {
        assert_eq!(event.seq as usize, at, "events are dense");
    }
    // Every query that has left and that rules hold or deny was approved before, under its very text.
    for (text, left) in &run.queries {
        let Ok(parsed) = sql::parse(text) else { continue };
        for kind in parsed
            .statements
            .iter()
            .map(sql::Statement::kind)
            .filter(|kind| *kind != Kind::Other)
        {
            let before = || run.events.iter().take(left.events);
            let recorded = before().any(|event| match &event.body {
                Body::Statement { statement, text: judged, verdict, .. } if judged == text => match ruling(left.rules, kind) {
                    Ruling::Allow => *verdict == Verdict::Allow,
                    Ruling::Deny => false,
                    Ruling::Hold => {
                        let number = *statement;
                        before().any(|event| matches!(&event.body, Body::Answered { statement, outcome: Outcome::Approved, .. } if *statement == number))
                    }
                },
                _ => false,
            });
            assert!(
                recorded,
                "a query leaves when it was judged: {}",
                String::from_utf8_lossy(text)
            );
        }
    }
}

/// A generated case as moves: one file of the corpus.
pub fn encode(case: &Case) -> Vec<u8> {
    let first = (0..=255u8)
        .find(|b| {
            usize::from(b % 3) == case.rules
                && (b & 0x40 != 0) == case.masked
                && (b & 0x80 != 0) == case.newest
        })
        .unwrap_or(0);
    let mut out = vec![first];
    let say = |out: &mut Vec<u8>, message: &Message| {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        for (n, piece) in bytes.chunks(100).enumerate() {
            out.push(u8::try_from(piece.len()).unwrap_or(1));
            out.extend_from_slice(piece);
            if n % 2 == 1 {
                out.push(0x83);
            }
        }
        out.push(0x80 | (bytes.len() % 8) as u8);
    };
    for step in &case.steps {
        match step {
            Step::Send(message) => say(&mut out, message),
            Step::Settle => out.extend_from_slice(&[0xff, 0xd0, 0xff]),
            Step::Rules(n) => out.push(0xd4 + u8::try_from(*n).unwrap_or(0)),
            Step::Cancel => out.push(0xd3),
            Step::Gone => out.push(0xd8),
            Step::CatalogChanged => out.push(0xd7),

            Step::Unowed(tag) | Step::Wrong(tag) => out.extend_from_slice(&[0xc5, *tag, 0, 0, 0, 4]),
            Step::Contradicts(..) | Step::Unasked(_) => {
                out.extend_from_slice(&[0xcb, b'S', 0, 0, 0, 10, b'a', b'b', 0, b'c', b'd', 0])
            }
        }
    }
    out
}
