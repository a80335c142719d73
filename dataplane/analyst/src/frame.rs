//! What pool and worker say to each other: a frame of `headgate_wire` with postcard in it.
//!
//! A worker is not trusted: its answer is bounded, and the thread that decodes it has the stack for the deepest value
//! that fits ([`DECODE_STACK_BYTES`]), because `Statement` holds `Statement`.

use headgate_sql::lexer::BYTES_ABSOLUTE_MAX;
use headgate_sql::{Action, Caps, Facts, Statement, Unreadable};
use headgate_wire::frame::{self, HEAD_BYTES};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// The text, its length, its language and five caps.
pub const REQUEST_BYTES_MAX: usize = BYTES_ABSOLUTE_MAX + 64;
pub const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A level of nesting is at least 11 bytes of an answer, and costs less than 2 KiB of stack in a debug build.
pub const DECODE_STACK_BYTES: usize = ANSWER_BYTES_MAX / 11 * 2048 + (8 << 20);

/// What a text is written in. An arm each, in the order of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Language {
    /// SQL as PostgreSQL reads it.
    Postgres,
}

impl Language {
    /// What can be said of a text without a parser: what is refused here never reaches a worker.
    pub(crate) fn precheck(self, text: &[u8], caps: &Caps) -> Result<(), Unreadable> {
        match self {
            Language::Postgres => match headgate_sql::precheck(text, caps) {
                // For what does not end the parser has PostgreSQL's own words.
                Err(Unreadable::Unterminated) => Ok(()),
                checked => checked,
            },
        }
    }

    /// Parses a text. In a worker only.
    pub(crate) fn read(self, text: &[u8], caps: &Caps) -> Analysis {
        match self {
            Language::Postgres => headgate_sqlparse::read(text, caps),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Request<'a> {
    language: Language,
    caps: [u64; 5],
    text: &'a [u8],
}

pub type Analysis = Result<Facts, Unreadable>;

pub fn encode_request(language: Language, text: &[u8], caps: &Caps) -> Option<Vec<u8>> {
    let caps = [
        caps.bytes_max,
        caps.tokens_max,
        caps.comment_depth_max,
        caps.depth_max,
        caps.chain_max,
    ]
    .map(|cap| u64::try_from(cap).unwrap_or(u64::MAX));
    framed(
        postcard::to_extend(&Request { language, caps, text }, vec![0; HEAD_BYTES]).ok()?,
        REQUEST_BYTES_MAX,
    )
}

pub fn decode_request(bytes: &[u8]) -> Option<(Language, &[u8], Caps)> {
    let request: Request<'_> = postcard::from_bytes(bytes).ok()?;
    let [bytes_max, tokens_max, comment_depth_max, depth_max, chain_max] =
        request.caps.map(|cap| usize::try_from(cap).unwrap_or(usize::MAX));
    Some((
        request.language,
        request.text,
        Caps {
            bytes_max,
            tokens_max,
            comment_depth_max,
            depth_max,
            chain_max,
        },
    ))
}

/// An answer that is too large says so instead.
pub fn encode_answer(answer: &Analysis) -> Option<Vec<u8>> {
    let encode = |answer: &Analysis| {
        framed(
            postcard::to_extend(answer, vec![0; HEAD_BYTES]).ok()?,
            ANSWER_BYTES_MAX,
        )
    };
    encode(answer).or_else(|| {
        encode(&Err(Unreadable::TooManyTokens {
            max: ANSWER_BYTES_MAX,
        }))
    })
}

/// `None`: not an answer that an honest worker gives.
pub fn decode_answer(bytes: &[u8]) -> Option<Analysis> {
    let (answer, rest): (Analysis, &[u8]) = postcard::take_from_bytes(bytes).ok()?;
    let honest = match &answer {
        Ok(facts) => facts.statements.iter().all(is_flat),
        Err(Unreadable::AnalystLost) => false,
        Err(_) => true,
    };
    (rest.is_empty() && honest).then_some(answer)
}

/// PREPARE and DECLARE carry one query, which carries none.
fn is_flat(statement: &Statement) -> bool {
    match &statement.action {
        Action::Prepare { inner, .. } | Action::Declare { inner, .. } => {
            !matches!(inner.action, Action::Prepare { .. } | Action::Declare { .. })
        }
        _ => true,
    }
}

fn framed(mut bytes: Vec<u8>, max: usize) -> Option<Vec<u8>> {
    frame::seal(&mut bytes, max).ok()?;
    Some(bytes)
}

/// Reads one frame into `buffer`. `Ok(false)`: the peer ended between frames.
pub fn read_frame(from: &mut impl Read, buffer: &mut Vec<u8>, max: usize) -> io::Result<bool> {
    let mut head = [0; HEAD_BYTES];
    match from.read(&mut head)? {
        0 => return Ok(false),
        HEAD_BYTES => {}
        got => from.read_exact(head.get_mut(got..).unwrap_or_default())?,
    }
    let length = frame::body_bytes(head, max).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    buffer.clear();
    buffer.resize(length, 0);
    from.read_exact(buffer)?;
    Ok(true)
}

pub fn write_frame(to: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    to.write_all(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_an_answer_come_back() {
        let frame = encode_request(Language::Postgres, b"select 1", &Caps::DEFAULT).expect("small");
        let mut buffer = Vec::new();
        assert!(read_frame(&mut frame.as_slice(), &mut buffer, REQUEST_BYTES_MAX).expect("whole"));
        assert_eq!(
            decode_request(&buffer),
            Some((Language::Postgres, &b"select 1"[..], Caps::DEFAULT))
        );
        let answer = Ok(Facts {
            statements: vec![Statement::default()],
        });
        let frame = encode_answer(&answer).expect("small");
        assert_eq!(decode_answer(&frame[4..]), Some(answer));
    }

    #[test]
    fn a_cut_or_lengthened_answer_is_no_answer() {
        let frame = encode_answer(&Ok(Facts {
            statements: vec![Statement::default()],
        }))
        .expect("small");
        for end in 4..frame.len() {
            assert_eq!(decode_answer(&frame[4..end]), None);
        }
        let mut longer = frame[4..].to_vec();
        longer.push(0);
        assert_eq!(decode_answer(&longer), None);
    }

    #[test]
    fn the_deepest_answer_that_fits_is_refused_and_not_a_crash() {
        // Each level: a PREPARE whose inner statement is a PREPARE. Written by hand: no honest encoder gets this far.
        let plain = postcard::to_stdvec(&Statement::default()).expect("plain");
        let (before, after) = plain.split_at(10);
        assert_eq!(after, [0, 0, 0], "Plain, no setting, no catalog change");
        let mut bytes = vec![0, 1];
        let levels = (ANSWER_BYTES_MAX - 64) / 14;
        for _ in 0..levels {
            bytes.extend_from_slice(before);
            bytes.extend_from_slice(&[1, 0]);
        }
        bytes.extend_from_slice(&plain);
        for _ in 0..levels {
            bytes.extend_from_slice(&[0, 0]);
        }
        assert!(bytes.len() <= ANSWER_BYTES_MAX);
        let decoded = std::thread::Builder::new()
            .stack_size(DECODE_STACK_BYTES)
            .spawn(move || decode_answer(&bytes))
            .expect("a thread")
            .join()
            .expect("no overflow");
        assert_eq!(decoded, None);
    }
}
