//! Values as a person reads them.

use crate::types::ParameterRow;
use headgate_plane::{Class, ClassSet};
use headgate_recording::ParameterView;

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for b in bytes {
        for nibble in [b >> 4, b & 15] {
            out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('?'));
        }
    }
    out
}

/// A value by its format and type OID; 0 where the type is not known.
pub(crate) fn value(format: u16, type_oid: u32, bytes: &[u8]) -> String {
    if format == 0 {
        return text(bytes);
    }
    let known = match (type_oid, bytes) {
        (16, [b]) => Some((*b != 0).to_string()),
        (21, _) => bytes.try_into().ok().map(|b| i16::from_be_bytes(b).to_string()),
        (23, _) => bytes.try_into().ok().map(|b| i32::from_be_bytes(b).to_string()),
        (26, _) => bytes.try_into().ok().map(|b| u32::from_be_bytes(b).to_string()),
        (20, _) => bytes.try_into().ok().map(|b| i64::from_be_bytes(b).to_string()),
        (700, _) => bytes.try_into().ok().map(|b| f32::from_be_bytes(b).to_string()),
        (701, _) => bytes.try_into().ok().map(|b| f64::from_be_bytes(b).to_string()),
        (2950, _) if bytes.len() == 16 => {
            let h = hex(bytes);
            Some(format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..]))
        }
        (18 | 19 | 25 | 114 | 1042 | 1043, _) => std::str::from_utf8(bytes).ok().map(str::to_owned),
        (3802, [1, json @ ..]) => std::str::from_utf8(json).ok().map(str::to_owned),
        _ => None,
    };
    known.unwrap_or_else(|| format!("\\x{}", hex(bytes)))
}

pub(crate) fn parameters(parameters: &[ParameterView<'_>]) -> Vec<ParameterRow> {
    parameters
        .iter()
        .map(|p| ParameterRow { type_oid: p.type_oid, value: p.value.map(|bytes| value(p.format, p.type_oid, bytes)) })
        .collect()
}

pub(crate) fn classes(bits: u16) -> Vec<String> {
    ClassSet(bits).iter().map(|c: Class| c.name().to_owned()).collect()
}

pub(crate) fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_values_are_decoded_where_their_type_is_known() {
        assert_eq!(value(1, 23, &[0, 0, 0, 42]), "42");
        assert_eq!(value(1, 23, &[0, 42]), "\\x002a");
        assert_eq!(value(1, 16, &[1]), "true");
        assert_eq!(value(1, 0, b"ab"), "\\x6162");
        assert_eq!(value(0, 23, b"42"), "42");
    }
}
