//! Numbers with units: `67108864` or `"64MiB"` for bytes, `"15m"` for times, and the three spellings of `cores`.

use crate::model::Cores;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;
use std::time::Duration;

pub(crate) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct Bytes;
    impl Visitor<'_> for Bytes {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of bytes, as 65536 or \"64KiB\"")
        }

        fn visit_i64<E: Error>(self, v: i64) -> Result<u64, E> {
            u64::try_from(v).map_err(|_| E::custom("a number of bytes cannot be negative"))
        }

        fn visit_u64<E: Error>(self, v: u64) -> Result<u64, E> {
            Ok(v)
        }

        fn visit_str<E: Error>(self, v: &str) -> Result<u64, E> {
            parse_bytes(v).ok_or_else(|| {
                E::custom(format!(
                    "`{v}` is not a number of bytes, as 65536 or \"64KiB\" (B, KiB, MiB, GiB)"
                ))
            })
        }
    }
    deserializer.deserialize_any(Bytes)
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    Some((digits.parse().ok()?, unit.trim()))
}

fn parse_bytes(text: &str) -> Option<u64> {
    let (count, unit) = split_unit(text)?;
    let scale = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    count.checked_mul(scale)
}

pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).ok_or_else(|| {
        D::Error::custom(format!(
            "`{text}` is not a time, as \"90s\", \"15m\", \"8h\" or \"7d\""
        ))
    })
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (count, unit) = split_unit(text)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    count.checked_mul(seconds).map(Duration::from_secs)
}

impl<'de> Deserialize<'de> for Cores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Cores;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\", a count, or a list of core numbers")
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Cores, E> {
                if v == "auto" {
                    Ok(Cores::Auto)
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(v), &self))
                }
            }

            fn visit_i64<E: Error>(self, v: i64) -> Result<Cores, E> {
                match u32::try_from(v) {
                    Ok(count) if count > 0 => Ok(Cores::Count(count)),
                    _ => Err(E::custom("a count of cores is at least 1")),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Cores, A::Error> {
                let mut list = Vec::new();
                while let Some(core) = seq.next_element::<u32>()? {
                    if list.contains(&core) {
                        return Err(A::Error::custom(format!("core {core} is named twice")));
                    }
                    list.push(core);
                }
                if list.is_empty() {
                    return Err(A::Error::custom(
                        "a list of cores cannot be empty; write \"auto\"",
                    ));
                }
                Ok(Cores::List(list))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_with_their_units_and_refuse_others() {
        assert_eq!(parse_bytes("64MiB"), Some(64 << 20));
        assert_eq!(parse_bytes("2 GiB"), Some(2 << 30));
        assert_eq!(parse_bytes("17"), Some(17));
        for wrong in [
            "",
            "MiB",
            "1MB",
            "-1",
            "1.5KiB",
            "99999999999999999999",
            "18446744073709551615KiB",
        ] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
        assert_eq!(parse_duration("15m"), Some(Duration::from_secs(900)));
        assert_eq!(parse_duration("15"), None);
    }
}
