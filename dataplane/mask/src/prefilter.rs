//! Proposes positions at which a detector could find something, over whole chunks of rows, framing bytes included.
//!
//! Sound by construction: a shape here is a necessary condition of its detector, without any test of boundaries, so
//! whatever lies inside one field is proposed; what reaches over fields is a false proposal that `detect` throws out.
//! Windows of 64 bytes advance by 48, so that the longest shape (16 bytes) never needs a carry.
//!
//! The AVX2 form and the scalar form differ only in how they classify a window; the scalar one is the oracle in tests.

use crate::detect::{Kind, Kinds};

const WINDOW: usize = 64;
const STEP: usize = 48;
const STARTS: u64 = (1 << STEP) - 1;

/// One bit per byte of a window: what every window is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct First {
    at: u64,
    digit: u64,
}

/// What only those windows are asked for that have digits in a row, or when detectors of letters are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Classes {
    separator: u64,
    upper: u64,
    ey: u64,
    a: u64,
}

/// Appends, in order, every position of `bytes[from..to]` where something of `kinds` may stand. Looks beyond `to`.
pub fn candidates(kinds: Kinds, bytes: &[u8], from: usize, to: usize, out: &mut Vec<usize>) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        return avx2::candidates(kinds, bytes, from, to, out);
    }
    scalar(kinds, bytes, from, to, out);
}

pub(crate) fn scalar(kinds: Kinds, bytes: &[u8], from: usize, to: usize, out: &mut Vec<usize>) {
    windows(
        bytes,
        from,
        to,
        |window| shapes(kinds, first(window), || classify(window)),
        out,
    );
}

#[inline(always)]
fn windows(
    bytes: &[u8],
    from: usize,
    to: usize,
    starts: impl Fn(&[u8; WINDOW]) -> u64,
    out: &mut Vec<usize>,
) {
    let to = to.min(bytes.len());
    let mut pos = from;
    while pos < to {
        let mut bits = match bytes.get(pos..).and_then(|rest| rest.first_chunk::<WINDOW>()) {
            Some(window) => starts(window),
            None => {
                let mut window = [0u8; WINDOW];
                for (slot, b) in window.iter_mut().zip(bytes.iter().skip(pos)) {
                    *slot = *b;
                }
                starts(&window)
            }
        } & STARTS;
        while bits != 0 {
            let at = pos + bits.trailing_zeros() as usize;
            if at >= to {
                return;
            }
            out.push(at);
            bits &= bits - 1;
        }
        pos += STEP;
    }
}

/// Bit i: a shape of `kinds` begins at byte i (for an e-mail: its `@` is there).
#[inline(always)]
fn shapes(kinds: Kinds, first: First, rest: impl FnOnce() -> Classes) -> u64 {
    let d = first.digit;
    let d2 = d & d >> 1;
    let d4 = d2 & d2 >> 2;
    let mut found = 0;
    if kinds.has(Kind::Email) {
        found |= first.at;
    }
    // Cards and social security numbers have four digits in a row somewhere, an IBAN two.
    let numbers = d4 != 0 && (kinds.has(Kind::PaymentCard) || kinds.has(Kind::UsSsn));
    let letters = d2 != 0 && kinds.has(Kind::Iban) || kinds.has(Kind::Jwt) || kinds.has(Kind::AwsKey);
    if !numbers && !letters {
        return found;
    }
    let c = rest();
    let s = c.separator;
    if kinds.has(Kind::PaymentCard) {
        // DDDD S DDDD S DDDD, DDDD S DDDDDD S DDDD, and 13 digits. Not only where a run begins: the byte before can be a
        // field's length that looks like a digit.
        let head = d4 & s >> 4 & d4 >> 5;
        found |= head & s >> 9 & d4 >> 10;
        found |= head & d >> 9 & d >> 10 & s >> 11 & d4 >> 12;
        found |= d4 & d4 >> 4 & d4 >> 8 & d >> 12;
    }
    if kinds.has(Kind::UsSsn) {
        found |= d & d >> 1 & d >> 2 & s >> 3 & d >> 4 & d >> 5 & s >> 6 & d4 >> 7;
    }
    if kinds.has(Kind::Iban) {
        found |= c.upper & c.upper >> 1 & d >> 2 & d >> 3;
    }
    if kinds.has(Kind::Jwt) {
        found |= c.ey & c.upper >> 2;
    }
    if kinds.has(Kind::AwsKey) {
        found |= c.a & c.upper >> 1 & c.upper >> 2 & c.upper >> 3;
    }
    found
}

fn first(window: &[u8; WINDOW]) -> First {
    let mut first = First::default();
    for (i, b) in window.iter().enumerate() {
        match b {
            b'@' => first.at |= 1 << i,
            b'0'..=b'9' => first.digit |= 1 << i,
            _ => {}
        }
    }
    first
}

fn classify(window: &[u8; WINDOW]) -> Classes {
    let mut c = Classes::default();
    for (i, b) in window.iter().enumerate() {
        let bit = 1u64 << i;
        let next = window.get(i + 1).copied().unwrap_or(0);
        match b {
            b' ' | b'-' | b'.' => c.separator |= bit,
            b'A'..=b'Z' => {
                c.upper |= bit;
                if *b == b'A' {
                    c.a |= bit;
                }
            }
            b'e' if next == b'y' => c.ey |= bit,
            _ => {}
        }
    }
    c
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2 {
    //! JUSTIFICATION: the scalar form runs at some 0.3 GB/s, this one at ten times that, and every byte of every reply
    //! goes through it.

    use super::{Classes, First, Kinds, WINDOW, shapes, windows};
    use std::arch::x86_64::*;

    pub(super) fn candidates(kinds: Kinds, bytes: &[u8], from: usize, to: usize, out: &mut Vec<usize>) {
        assert!(std::is_x86_feature_detected!("avx2"));
        // SAFETY: AVX2 is there: the line above.
        unsafe { run(kinds, bytes, from, to, out) }
    }

    #[target_feature(enable = "avx2")]
    fn run(kinds: Kinds, bytes: &[u8], from: usize, to: usize, out: &mut Vec<usize>) {
        windows(
            bytes,
            from,
            to,
            |window| shapes(kinds, first(window), || classify(window)),
            out,
        );
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn halves(window: &[u8; WINDOW]) -> (__m256i, __m256i) {
        let (low, high) = window.split_at(WINDOW / 2);
        // SAFETY: each half of the window is 32 bytes long; loadu asks for no alignment.
        unsafe {
            (
                _mm256_loadu_si256(low.as_ptr().cast()),
                _mm256_loadu_si256(high.as_ptr().cast()),
            )
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn first(window: &[u8; WINDOW]) -> First {
        let (low, high) = halves(window);
        First {
            at: bits(
                _mm256_cmpeq_epi8(low, set(b'@')),
                _mm256_cmpeq_epi8(high, set(b'@')),
            ),
            digit: bits(within(low, b'0', 9), within(high, b'0', 9)),
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn classify(window: &[u8; WINDOW]) -> Classes {
        let (low, high) = halves(window);
        let is = |b: u8| bits(_mm256_cmpeq_epi8(low, set(b)), _mm256_cmpeq_epi8(high, set(b)));
        let e = is(b'e');
        Classes {
            separator: bits(separator(low), separator(high)),
            upper: bits(within(low, b'A', 25), within(high, b'A', 25)),
            ey: e & is(b'y') >> 1,
            a: is(b'A'),
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn set(b: u8) -> __m256i {
        _mm256_set1_epi8(i8::from_ne_bytes([b]))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn within(v: __m256i, first: u8, span: u8) -> __m256i {
        let offset = _mm256_sub_epi8(v, set(first));
        _mm256_cmpeq_epi8(_mm256_min_epu8(offset, set(span)), offset)
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn separator(v: __m256i) -> __m256i {
        // 0x2d '-' and 0x2e '.' are neighbours.
        _mm256_or_si256(within(v, b'-', 1), _mm256_cmpeq_epi8(v, set(b' ')))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn bits(low: __m256i, high: __m256i) -> u64 {
        let word = |v: __m256i| u64::from(u32::from_ne_bytes(_mm256_movemask_epi8(v).to_ne_bytes()));
        word(low) | word(high) << 32
    }

    #[cfg(test)]
    #[test]
    fn every_byte_is_classified_as_the_scalar_form_does() {
        if !std::is_x86_feature_detected!("avx2") {
            return;
        }
        for b in 0..=255u8 {
            for i in 0..WINDOW {
                let mut window = [b; WINDOW];
                if let Some(slot) = window.get_mut(i) {
                    *slot = b.wrapping_add(if b == b'e' { b'y' - b'e' } else { 1 });
                }
                // SAFETY: AVX2 is there: the test returned otherwise.
                assert_eq!(
                    unsafe { classify(&window) },
                    super::classify(&window),
                    "byte {b} at {i}"
                );
                // SAFETY: as above.
                assert_eq!(
                    unsafe { first(&window) },
                    super::first(&window),
                    "byte {b} at {i}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect;
    use proptest::prelude::*;

    fn soup() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"bob@example.com".to_vec()),
            Just(b"4111111111111111".to_vec()),
            Just(b"4111-1111-1111-1111".to_vec()),
            Just(b"3782 822463 10005".to_vec()),
            Just(b"078-05-1120".to_vec()),
            Just(b"NL91 ABNA 0417 1643 00".to_vec()),
            Just(b"AKIAIOSFODNN7EXAMPLE".to_vec()),
            Just(b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIi.x".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..9),
            "[0-9 .@A-Za-z-]{0,20}".prop_map(String::into_bytes),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|p| p.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn no_value_is_missed_and_both_forms_agree(bytes in soup(), cut in 0usize..200, kinds in 0u8..64) {
            let kinds = Kinds(kinds);
            let (mut fast, mut slow) = (Vec::new(), Vec::new());
            let cut = cut.min(bytes.len());
            candidates(kinds, &bytes, 0, cut, &mut fast);
            candidates(kinds, &bytes, cut, bytes.len(), &mut fast);
            scalar(kinds, &bytes, 0, cut, &mut slow);
            scalar(kinds, &bytes, cut, bytes.len(), &mut slow);
            prop_assert_eq!(&fast, &slow);
            for at in 0..bytes.len() {
                if detect::at(kinds, &bytes, at).is_some() {
                    prop_assert!(fast.contains(&at), "missed at {}", at);
                }
            }
            prop_assert!(fast.windows(2).all(|w| w[0] < w[1]));
        }
    }
}
