//! Values that come beside a statement's text. What describes a value differs by protocol: an arm each.

use serde::{Deserialize, Serialize};

/// One value given beside the text, as its bytes came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// How `value` is to be read.
    pub kind: ParameterKind,
    /// `None` is SQL NULL.
    pub value: Option<Vec<u8>>,
}

/// How a value is to be read. On disk and on the link: new arms go to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParameterKind {
    /// Of PostgreSQL's Bind.
    Postgres {
        /// Type OID given at Parse; 0 where the client left it to the server.
        type_oid: u32,
        /// 0 text, 1 binary.
        format: u16,
    },
}

impl ParameterKind {
    /// Puts down what an approval binds: the arm's number and its fields, each of a fixed length.
    pub(crate) fn digest_input(self, out: &mut Vec<u8>) {
        match self {
            ParameterKind::Postgres { type_oid, format } => {
                out.push(0);
                out.extend_from_slice(&type_oid.to_be_bytes());
                out.extend_from_slice(&format.to_be_bytes());
            }
        }
    }
}
