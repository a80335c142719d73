//! A held statement as reviewers see it, and the reply.

use crate::grant::Who;
use crate::ids::{Epoch, QuestionKey, QuestionNumber};
use serde::{Deserialize, Serialize};

/// SHA-256 over everything that an approval binds: see [`Question::digest_input`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QuestionDigest(pub [u8; 32]);

impl std::fmt::Debug for QuestionDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for b in self.0 {
            write!(f, "{b:02x}")?;
        }
        Ok(())
    }
}

/// One parameter of Bind, as its bytes came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Type OID given at Parse; 0 where the client left it to the server.
    pub type_oid: u32,
    /// 0 text, 1 binary.
    pub format: u16,
    /// `None` is SQL NULL.
    pub value: Option<Vec<u8>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Question {
    pub key: QuestionKey,
    pub who: Who,
    pub target: String,
    pub environment: String,
    /// Role that the target sees.
    pub role: String,
    /// The exact bytes that will be sent.
    pub statement: Vec<u8>,
    pub parameters: Vec<Parameter>,
    /// Data follows that is not shown here and that the digest does not bind: COPY … FROM STDIN under a rule with
    /// `data = "open"`.
    #[serde(default)]
    pub open_data: bool,
    pub epoch: Epoch,
    /// Name of the rule that holds.
    pub rule: String,
    pub reviewers: crate::snapshot::Reviewers,
    pub asked_unix_ms: u64,
    /// The deadline denies. Unix milliseconds.
    pub deadline_unix_ms: u64,
    pub digest: QuestionDigest,
}

impl Question {
    /// The bytes whose SHA-256 is the digest. Every field has its length before it, so no two questions share an input.
    /// Bound: session, statement number, principal, chain, target, role, statement bytes, parameters, epoch.
    #[allow(clippy::too_many_arguments)]
    pub fn digest_input(
        key: QuestionKey,
        who: &Who,
        target: &str,
        role: &str,
        statement: &[u8],
        parameters: &[Parameter],
        epoch: Epoch,
    ) -> Vec<u8> {
        fn put(out: &mut Vec<u8>, bytes: &[u8]) {
            out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            out.extend_from_slice(bytes);
        }
        let mut out = Vec::with_capacity(128 + statement.len());
        put(&mut out, b"headgate question v1");
        put(&mut out, &key.session.0.to_be_bytes());
        put(&mut out, &key.statement.to_be_bytes());
        put(&mut out, who.principal.as_bytes());
        put(&mut out, who.issuer.as_bytes());
        put(&mut out, &(who.chain.len() as u64).to_be_bytes());
        for actor in &who.chain {
            put(&mut out, actor.as_bytes());
        }
        put(&mut out, target.as_bytes());
        put(&mut out, role.as_bytes());
        put(&mut out, statement);
        put(&mut out, &(parameters.len() as u64).to_be_bytes());
        for p in parameters {
            put(&mut out, &p.type_oid.to_be_bytes());
            put(&mut out, &p.format.to_be_bytes());
            match &p.value {
                None => out.push(0),
                Some(value) => {
                    out.push(1);
                    put(&mut out, value);
                }
            }
        }
        put(&mut out, &epoch.0.to_be_bytes());
        out
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Spent by the first and only forward of exactly what `digest` covers.
    Approved {
        reviewers: Vec<String>,
        digest: QuestionDigest,
    },
    Denied {
        reviewer: String,
        reason: String,
    },
    /// Nobody answered before the deadline.
    Expired,
    /// An approval that was taken back before it was spent, or a session that was revoked.
    Revoked {
        by: String,
    },
}

/// Why a question went away without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Withdrawal {
    Cancelled,
    ClientGone,
    TargetGone,
    /// The rules changed so that the statement is judged anew.
    Rejudged,
}

/// What the client is told when its statement is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub key: QuestionKey,
    pub number: QuestionNumber,
    /// Where a reviewer answers, a URL.
    pub address: String,
}
