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

/// A kind as postcard writes it: the arm's number and its fields.
#[derive(Clone, Copy, Debug)]
pub struct KindBytes {
    bytes: [u8; KindBytes::MAX],
    used: usize,
}

impl KindBytes {
    /// An arm's number, a u32 and a u16 take no more.
    const MAX: usize = 9;

    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.used).unwrap_or_default()
    }

    #[inline]
    fn number(&mut self, mut n: u32) {
        while let Some(place) = self.bytes.get_mut(self.used) {
            self.used += 1;
            if n < 0x80 {
                *place = n.to_le_bytes()[0];
                return;
            }
            *place = n.to_le_bytes()[0] | 0x80;
            n >>= 7;
        }
    }
}

impl ParameterKind {
    /// As it stands in events and messages, without a writer: for where a record is written in place.
    #[inline]
    pub fn encoded(self) -> KindBytes {
        let mut out = KindBytes {
            bytes: [0; KindBytes::MAX],
            used: 0,
        };
        match self {
            ParameterKind::Postgres { type_oid, format } => {
                out.number(0);
                out.number(type_oid);
                out.number(u32::from(format));
            }
        }
        out
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_encoded_as_postcard_does_it() {
        for type_oid in [0, 23, 127, 128, 1043, 16_384, 1 << 21, 1 << 28, u32::MAX] {
            for format in [0, 1, 127, 128, u16::MAX] {
                let kind = ParameterKind::Postgres { type_oid, format };
                assert_eq!(kind.encoded().as_slice(), postcard::to_stdvec(&kind).unwrap());
            }
        }
    }
}
