//! Values of PostgreSQL as a person reads them: what its binary formats hold, written as the server would write it.
//!
//! Takes hostile bytes: what is not as its type says is not read, and is shown as bytes. Bounds: the text of a numeric is at
//! most [`DIGITS_MAX`] digits; an array has one dimension here, and is as long as its bytes.
//! Spec: PostgreSQL 18, the `*_send` functions of src/backend/utils/adt.

use data_encoding::HEXLOWER;

/// PostgreSQL counts days and microseconds from 2000-01-01: that many days after 1970-01-01.
const EPOCH_DAYS: i64 = 10_957;
/// The last day that the server writes, of the year 5874897, and the first.
const DAYS_MAX: i64 = 2_145_042_905;
const DAYS_MIN: i64 = -2_451_545;
const DIGITS_MAX: usize = 2000;
const DAY_US: i64 = 24 * 3600 * 1_000_000;

mod oid {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const CHAR: u32 = 18;
    pub const NAME: u32 = 19;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const TEXT: u32 = 25;
    pub const OID: u32 = 26;
    pub const JSON: u32 = 114;
    pub const XML: u32 = 142;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const BPCHAR: u32 = 1042;
    pub const VARCHAR: u32 = 1043;
    pub const DATE: u32 = 1082;
    pub const TIME: u32 = 1083;
    pub const TIMESTAMP: u32 = 1114;
    pub const TIMESTAMPTZ: u32 = 1184;
    pub const INTERVAL: u32 = 1186;
    pub const NUMERIC: u32 = 1700;
    pub const UUID: u32 = 2950;
    pub const JSONB: u32 = 3802;
    /// Arrays of the above.
    pub const ARRAYS: [u32; 22] = [
        1000, 1001, 1002, 1003, 1016, 1005, 1007, 1009, 1028, 199, 143, 1021, 1022, 1014, 1015, 1182, 1183,
        1115, 1185, 1187, 1231, 2951,
    ];
}

/// A value of a type and a format; `None` where that does not tell how to read it.
pub(crate) fn text(type_oid: u32, format: u16, bytes: &[u8]) -> Option<String> {
    if format == 0 {
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    } else {
        binary(type_oid, bytes)
    }
}

/// A value of a row: the same, and as bytes where it cannot be read.
pub(crate) fn shown(type_oid: u32, format: u16, bytes: &[u8]) -> String {
    if format == 0 {
        crate::render::text(bytes)
    } else {
        binary(type_oid, bytes).unwrap_or_else(|| hex(bytes))
    }
}

fn hex(bytes: &[u8]) -> String {
    format!("\\x{}", HEXLOWER.encode(bytes))
}

fn binary(type_oid: u32, bytes: &[u8]) -> Option<String> {
    let eight = || <[u8; 8]>::try_from(bytes).ok();
    let four = || <[u8; 4]>::try_from(bytes).ok();
    match type_oid {
        oid::BOOL => match bytes {
            [0] => Some("false".to_owned()),
            [1] => Some("true".to_owned()),
            _ => None,
        },
        oid::BYTEA => Some(hex(bytes)),
        oid::INT2 => bytes.try_into().ok().map(|b| i16::from_be_bytes(b).to_string()),
        oid::INT4 => four().map(|b| i32::from_be_bytes(b).to_string()),
        oid::INT8 => eight().map(|b| i64::from_be_bytes(b).to_string()),
        oid::OID => four().map(|b| u32::from_be_bytes(b).to_string()),
        oid::FLOAT4 => four().map(|b| f32::from_be_bytes(b).to_string()),
        oid::FLOAT8 => eight().map(|b| f64::from_be_bytes(b).to_string()),
        oid::CHAR | oid::NAME | oid::TEXT | oid::JSON | oid::XML | oid::BPCHAR | oid::VARCHAR => {
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        }
        oid::JSONB => bytes
            .strip_prefix(&[1])
            .and_then(|json| std::str::from_utf8(json).ok())
            .map(str::to_owned),
        oid::UUID if bytes.len() == 16 => {
            let h = HEXLOWER.encode(bytes);
            Some(format!(
                "{}-{}-{}-{}-{}",
                h.get(..8)?,
                h.get(8..12)?,
                h.get(12..16)?,
                h.get(16..20)?,
                h.get(20..)?
            ))
        }
        oid::DATE => date(i32::from_be_bytes(four()?)),
        oid::TIME => time(i64::from_be_bytes(eight()?)),
        oid::TIMESTAMP => timestamp(i64::from_be_bytes(eight()?), ""),
        oid::TIMESTAMPTZ => timestamp(i64::from_be_bytes(eight()?), "+00"),
        oid::INTERVAL => interval(bytes),
        oid::NUMERIC => numeric(bytes),
        _ if oid::ARRAYS.contains(&type_oid) => array(bytes),
        _ => None,
    }
}

fn infinite<T: PartialEq>(value: T, min: T, max: T) -> Option<String> {
    if value == max {
        Some("infinity".to_owned())
    } else {
        (value == min).then(|| "-infinity".to_owned())
    }
}

fn date(days: i32) -> Option<String> {
    infinite(days, i32::MIN, i32::MAX).or_else(|| day(i64::from(days)))
}

/// The day so many days after the epoch, by the civil calendar (H. Hinnant, civil_from_days); `None` beyond what is one. By hand, because PostgreSQL's dates go to the
/// year 5,874,897, and no date library here goes beyond 999,999.
fn day(days: i64) -> Option<String> {
    if !(DAYS_MIN..=DAYS_MAX).contains(&days) {
        return None;
    }
    let shifted = days + EPOCH_DAYS + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (
        of_year - (153 * month + 2) / 5 + 1,
        if month < 10 { month + 3 } else { month - 9 },
    );
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    // There is no year 0: the one before 1 is 1 BC.
    Some(if year > 0 {
        format!("{year:04}-{month:02}-{day:02}")
    } else {
        format!("{:04}-{month:02}-{day:02} BC", 1 - year)
    })
}

fn clock(us: i64) -> String {
    let (seconds, us) = (us / 1_000_000, us % 1_000_000);
    let fraction = if us == 0 {
        String::new()
    } else {
        format!(".{us:06}").trim_end_matches('0').to_owned()
    };
    format!(
        "{:02}:{:02}:{:02}{fraction}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

fn time(us: i64) -> Option<String> {
    (0..=DAY_US).contains(&us).then(|| clock(us))
}

fn timestamp(us: i64, zone: &str) -> Option<String> {
    infinite(us, i64::MIN, i64::MAX).or_else(|| {
        let day = day(us.div_euclid(DAY_US))?;
        let clock = clock(us.rem_euclid(DAY_US));
        Some(match day.strip_suffix(" BC") {
            Some(day) => format!("{day} {clock}{zone} BC"),
            None => format!("{day} {clock}{zone}"),
        })
    })
}

fn interval(bytes: &[u8]) -> Option<String> {
    let (us, rest) = bytes.split_first_chunk::<8>()?;
    let (days, months) = rest.split_first_chunk::<4>()?;
    let (us, days, months) = (
        i64::from_be_bytes(*us),
        i32::from_be_bytes(*days),
        i32::from_be_bytes(months.try_into().ok()?),
    );
    let clock = format!("{}{}", if us < 0 { "-" } else { "" }, clock(us.checked_abs()?));
    let parts = [(months, "mons"), (days, "days")];
    let mut text: Vec<String> = parts
        .iter()
        .filter(|(n, _)| *n != 0)
        .map(|(n, unit)| format!("{n} {unit}"))
        .collect();
    if us != 0 || text.is_empty() {
        text.push(clock);
    }
    Some(text.join(" "))
}

/// Groups of four decimal digits, and where the point stands.
fn numeric(bytes: &[u8]) -> Option<String> {
    let words: Vec<u16> = {
        let (pairs, rest) = bytes.as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect()
    };
    let [count, weight, sign, scale, groups @ ..] = words.as_slice() else {
        return None;
    };
    let weight = i32::from(weight.cast_signed());
    let sign = match *sign {
        0x0000 => "",
        0x4000 => "-",
        0xc000 => return Some("NaN".to_owned()),
        0xd000 => return Some("Infinity".to_owned()),
        0xf000 => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    let scale = usize::from(*scale);
    if groups.len() != usize::from(*count) || groups.iter().any(|group| *group > 9999) || scale > DIGITS_MAX {
        return None;
    }
    // The group that counts 10000^power.
    let group = |power: i32| {
        usize::try_from(weight - power)
            .ok()
            .and_then(|at| groups.get(at))
            .copied()
            .unwrap_or(0)
    };
    if weight > i32::try_from(DIGITS_MAX / 4).ok()? {
        return None;
    }
    let whole: String = (0..=weight.max(0))
        .rev()
        .map(|power| format!("{:04}", group(power)))
        .collect();
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let groups_after = i32::try_from(scale.div_ceil(4)).ok()?;
    let after: String = (1..=groups_after)
        .map(|power| format!("{:04}", group(-power)))
        .collect();
    let after = after.get(..scale)?;
    Some(if scale == 0 {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{after}")
    })
}

/// One dimension; elements as they are written alone, texts in quotes.
fn array(bytes: &[u8]) -> Option<String> {
    let mut rest = bytes;
    let mut word = || {
        let (head, more) = rest.split_first_chunk::<4>()?;
        rest = more;
        Some(i32::from_be_bytes(*head))
    };
    let (dimensions, _nulls, element) = (word()?, word()?, word()?.cast_unsigned());
    if dimensions == 0 {
        return Some("{}".to_owned());
    }
    let (count, _first) = (word()?, word()?);
    if dimensions != 1 || oid::ARRAYS.contains(&element) {
        return None;
    }
    let mut shown = Vec::new();
    for _ in 0..count {
        let (len, more) = rest.split_first_chunk::<4>()?;
        let len = i32::from_be_bytes(*len);
        if len == -1 {
            shown.push("NULL".to_owned());
            rest = more;
            continue;
        }
        let (value, more) = more.split_at_checked(usize::try_from(len).ok()?)?;
        rest = more;
        let text = binary(element, value)?;
        let plain = !matches!(
            element,
            oid::CHAR
                | oid::NAME
                | oid::TEXT
                | oid::JSON
                | oid::JSONB
                | oid::XML
                | oid::BPCHAR
                | oid::VARCHAR
                | oid::BYTEA
        );
        shown.push(if plain {
            text
        } else {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        });
    }
    rest.is_empty().then(|| format!("{{{}}}", shown.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(type_oid: u32, bytes: &[u8]) -> String {
        shown(type_oid, 1, bytes)
    }

    fn numeric_of(words: &[i32]) -> String {
        value(
            1700,
            &words
                .iter()
                .flat_map(|w| (*w as u16).to_be_bytes())
                .collect::<Vec<u8>>(),
        )
    }

    #[test]
    fn binary_values_are_decoded_where_their_type_is_known() {
        // P4: psycopg's 12, which was shown as `base64 AAw=`.
        assert_eq!(value(21, &[0, 12]), "12");
        assert_eq!(value(23, &[0, 0, 0, 42]), "42");
        assert_eq!(value(20, &(-7i64).to_be_bytes()), "-7");
        assert_eq!(value(701, &1.5f64.to_be_bytes()), "1.5");
        assert_eq!(value(16, &[1]), "true");
        assert_eq!(value(25, "€".as_bytes()), "€");
        assert_eq!(value(2950, &[0x11; 16]), "11111111-1111-1111-1111-111111111111");
        assert_eq!(value(3802, b"\x01{}"), "{}");
        assert_eq!(value(17, b"\x00\xff"), "\\x00ff");
        assert_eq!(shown(23, 0, b"42"), "42");
    }

    #[test]
    fn what_is_not_as_its_type_says_is_shown_as_bytes() {
        for (type_oid, bytes) in [
            (23u32, &[0u8, 42][..]),
            (16, &[2]),
            (25, &[0xff]),
            (0, b"ab"),
            (1700, &[0, 1, 0]),
            (1700, &[0, 2, 0, 0, 0, 0, 0, 0, 0, 1]),
            (1082, &[0x80, 0, 0, 1]),
            (1082, &[0x7f, 0xff, 0xff, 0xfe]),
            (1007, &[0, 0, 0, 1]),
            (
                1007,
                &[
                    0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1,
                ],
            ),
        ] {
            assert_eq!(value(type_oid, bytes), hex(bytes), "type {type_oid}");
        }
        assert_eq!(text(0, 1, b"ab"), None);
    }

    #[test]
    fn times_count_from_the_year_2000() {
        assert_eq!(value(1082, &9831i32.to_be_bytes()), "2026-12-01");
        assert_eq!(value(1082, &(-1i32).to_be_bytes()), "1999-12-31");
        assert_eq!(value(1082, &(8_824i32).to_be_bytes()), "2024-02-28");
        assert_eq!(value(1082, &(8_825i32).to_be_bytes()), "2024-02-29");
        assert_eq!(value(1082, &(8_826i32).to_be_bytes()), "2024-03-01");
        assert_eq!(value(1082, &(-730_119i32).to_be_bytes()), "0001-01-01");
        assert_eq!(value(1082, &(-730_120i32).to_be_bytes()), "0001-12-31 BC");
        assert_eq!(value(1082, &i32::MAX.to_be_bytes()), "infinity");
        assert_eq!(value(1114, &0i64.to_be_bytes()), "2000-01-01 00:00:00");
        assert_eq!(value(1114, &(-1i64).to_be_bytes()), "1999-12-31 23:59:59.999999");
        assert_eq!(
            value(1184, &(86_400_000_000i64 + 500_000).to_be_bytes()),
            "2000-01-02 00:00:00.5+00"
        );
        assert_eq!(value(1184, &i64::MIN.to_be_bytes()), "-infinity");
        assert_eq!(value(1083, &(3_723_000_000i64).to_be_bytes()), "01:02:03");
        let interval = [
            &3_600_000_000i64.to_be_bytes()[..],
            &2i32.to_be_bytes(),
            &(-1i32).to_be_bytes(),
        ]
        .concat();
        assert_eq!(value(1186, &interval), "-1 mons 2 days 01:00:00");
    }

    #[test]
    fn numerics_have_their_point_where_the_server_puts_it() {
        // Count, weight, sign, scale, groups; as `select numeric_send(x)` gives them.
        assert_eq!(numeric_of(&[1, 0, 0, 0, 12]), "12");
        assert_eq!(numeric_of(&[2, 0, 0, 2, 12, 3400]), "12.34");
        assert_eq!(numeric_of(&[1, 1, 0, 0, 1]), "10000");
        assert_eq!(numeric_of(&[2, 1, 0x4000, 1, 1, 5]), "-10005.0");
        assert_eq!(numeric_of(&[1, -1, 0, 4, 5]), "0.0005");
        assert_eq!(numeric_of(&[1, -2, 0, 8, 5]), "0.00000005");
        assert_eq!(numeric_of(&[0, 0, 0, 0]), "0");
        assert_eq!(numeric_of(&[0, 0, 0, 2]), "0.00");
        assert_eq!(numeric_of(&[0, 0, 0xc000, 0]), "NaN");
    }

    #[test]
    fn arrays_are_written_in_braces() {
        let head = |element: u32, count: i32| {
            [
                &1i32.to_be_bytes()[..],
                &1i32.to_be_bytes(),
                &element.to_be_bytes(),
                &count.to_be_bytes(),
                &1i32.to_be_bytes(),
            ]
            .concat()
        };
        let item = |bytes: &[u8]| [&(bytes.len() as i32).to_be_bytes()[..], bytes].concat();
        let numbers = [
            head(23, 3),
            item(&[0, 0, 0, 1]),
            (-1i32).to_be_bytes().to_vec(),
            item(&[0, 0, 0, 2]),
        ]
        .concat();
        assert_eq!(value(1007, &numbers), "{1,NULL,2}");
        let texts = [head(25, 2), item(b"a\"b"), item(b"")].concat();
        assert_eq!(value(1009, &texts), "{\"a\\\"b\",\"\"}");
        assert_eq!(value(1009, &[0; 12]), "{}");
    }
}
