//! Channel binding `tls-server-end-point`: the hash of the target's certificate.
//!
//! Invariant: a certificate that cannot be read, or whose signature has no single hash (Ed25519), gives `None`, never a guess.
//! Spec: RFC 5929 section 4.1: the hash of the certificate's signature algorithm; SHA-256 instead of MD5 and SHA-1.

use aws_lc_rs::digest::{self, Algorithm, SHA224, SHA256, SHA384, SHA512};
use headgate_wire::Reader;

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const CONTEXT_0: u8 = 0xa0;

/// 1.2.840.113549.1.1
const PKCS1: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// 1.2.840.10045.4
const ECDSA: [u8; 6] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
/// 2.16.840.1.101.3.4.2
const NIST_HASH: [u8; 8] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
/// 1.3.14.3.2.26
const SHA1: [u8; 5] = [0x2b, 0x0e, 0x03, 0x02, 0x1a];

/// The binding data of the target's end certificate, in DER.
pub fn tls_server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let mut outer = Reader::new(certificate);
    let mut fields = Reader::new(element(&mut outer, SEQUENCE)?);
    outer.finish().ok()?;
    element(&mut fields, SEQUENCE)?; // What is signed; its copy of the algorithm must be equal, which the TLS library checks.
    let algorithm = hash_of_signature(Reader::new(element(&mut fields, SEQUENCE)?))?;
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

fn hash_of_signature(mut algorithm: Reader<'_>) -> Option<&'static Algorithm> {
    let oid = element(&mut algorithm, OID)?;
    if let Some(rest) = oid.strip_prefix(&PKCS1) {
        return match rest {
            [4 | 5 | 11] => Some(&SHA256),
            [12] => Some(&SHA384),
            [13] => Some(&SHA512),
            [14] => Some(&SHA224),
            [10] => hash_of_pss(algorithm),
            _ => None,
        };
    }
    match oid.strip_prefix(&ECDSA)? {
        [1] | [3, 2] => Some(&SHA256),
        [3, 1] => Some(&SHA224),
        [3, 3] => Some(&SHA384),
        [3, 4] => Some(&SHA512),
        _ => None,
    }
}

/// RSASSA-PSS-params: `hashAlgorithm [0]`, SHA-1 if absent.
fn hash_of_pss(mut algorithm: Reader<'_>) -> Option<&'static Algorithm> {
    let mut parameters = Reader::new(element(&mut algorithm, SEQUENCE)?);
    if parameters.peek().first() != Some(&CONTEXT_0) {
        return Some(&SHA256);
    }
    let mut hash = Reader::new(element(&mut parameters, CONTEXT_0)?);
    let mut hash = Reader::new(element(&mut hash, SEQUENCE)?);
    let oid = element(&mut hash, OID)?;
    if oid == SHA1 {
        return Some(&SHA256);
    }
    match oid.strip_prefix(&NIST_HASH)? {
        [1] => Some(&SHA256),
        [2] => Some(&SHA384),
        [3] => Some(&SHA512),
        [4] => Some(&SHA224),
        _ => None,
    }
}

/// The content of the next element, if it has this tag.
fn element<'a>(reader: &mut Reader<'a>, tag: u8) -> Option<&'a [u8]> {
    if reader.u8().ok()? != tag {
        return None;
    }
    let len = match reader.u8().ok()? {
        short @ 0..=0x7f => usize::from(short),
        // A certificate's lengths have at most three bytes.
        long @ 0x81..=0x83 => reader
            .take(usize::from(long & 0x7f))
            .ok()?
            .iter()
            .fold(0usize, |len, byte| (len << 8) | usize::from(*byte)),
        _ => return None,
    };
    reader.take(len).ok()
}

#[cfg(test)]
mod tests;
