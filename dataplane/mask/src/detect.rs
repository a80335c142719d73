//! Detectors: what is recognised by its own shape, wherever it stands.
//!
//! A detector is a check at one position: [`at`] says whether a value begins there (for an e-mail: whether its `@` is
//! there). `prefilter` proposes positions; every position that [`at`] would accept is among them, so a scan of the
//! proposed positions finds what a scan of all positions would. Checks are bounded or anchored at a boundary, so that a
//! hostile text costs no more than linear time.
//!
//! Not found here, by choice: nine bare digits as a social security number, phone numbers, names, addresses: those are
//! found by column, with a label. A card is 13 to 19 digits, bare or grouped by one space, dash or dot, whose prefix is
//! a card scheme's and whose Luhn sum holds.

use std::ops::Range;

/// The names that a mask rule's `detect` may hold.
pub const DETECTOR_NAMES: [&str; 6] = ["email", "payment_card", "us_ssn", "iban", "jwt", "aws_key"];

/// What a detector knows by its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An address of electronic mail.
    Email = 0,
    /// A payment card's number, by its check digit.
    PaymentCard = 1,
    /// A social security number of the United States.
    UsSsn = 2,
    /// An international bank account number, by its check digits.
    Iban = 3,
    /// A JSON Web Token.
    Jwt = 4,
    /// An access key of AWS.
    AwsKey = 5,
}

impl Kind {
    /// All of them, by number.
    pub const ALL: [Kind; 6] = [
        Kind::Email,
        Kind::PaymentCard,
        Kind::UsSsn,
        Kind::Iban,
        Kind::Jwt,
        Kind::AwsKey,
    ];

    /// By the name that a rule has for it.
    pub fn parse(name: &str) -> Option<Kind> {
        DETECTOR_NAMES
            .iter()
            .position(|n| *n == name)
            .and_then(|i| Kind::ALL.get(i).copied())
    }
}

/// A set of detectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(pub u8);

impl Kinds {
    /// None of them.
    pub const NONE: Kinds = Kinds(0);
    /// All of them.
    pub const EVERY: Kinds = Kinds(0b11_1111);

    /// These, and one more.
    #[must_use]
    pub fn with(self, kind: Kind) -> Kinds {
        Kinds(self.0 | 1 << kind as u8)
    }

    /// Whether it is among them.
    pub fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Most bytes of an e-mail's local part that are looked at (RFC 5321 allows 64; a longer one is covered that far).
const LOCAL_BYTES_MAX: usize = 128;
const DOMAIN_BYTES_MAX: usize = 255;

/// What stands at `at`, if anything of `kinds` does.
pub fn at(kinds: Kinds, text: &[u8], at: usize) -> Option<(Kind, Range<usize>)> {
    let found = |kind: Kind, range: Option<Range<usize>>| range.map(|r| (kind, r));
    match text.get(at)? {
        b'@' if kinds.has(Kind::Email) => found(Kind::Email, email(text, at)),
        b'0'..=b'9' => {
            let card = if kinds.has(Kind::PaymentCard) {
                found(Kind::PaymentCard, card(text, at))
            } else {
                None
            };
            card.or_else(|| {
                if kinds.has(Kind::UsSsn) {
                    found(Kind::UsSsn, ssn(text, at))
                } else {
                    None
                }
            })
        }
        b'A'..=b'Z' => {
            let iban = if kinds.has(Kind::Iban) {
                found(Kind::Iban, iban(text, at))
            } else {
                None
            };
            iban.or_else(|| {
                if kinds.has(Kind::AwsKey) {
                    found(Kind::AwsKey, aws_key(text, at))
                } else {
                    None
                }
            })
        }
        b'e' if kinds.has(Kind::Jwt) => found(Kind::Jwt, jwt(text, at)),
        _ => None,
    }
}

fn byte(text: &[u8], at: usize) -> u8 {
    text.get(at).copied().unwrap_or(0)
}

fn before(text: &[u8], at: usize) -> u8 {
    at.checked_sub(1).map_or(0, |i| byte(text, i))
}

/// Space, dash and dot: what people put between the groups of a number. `prefilter` knows the same set.
pub(crate) fn is_separator(b: u8) -> bool {
    matches!(b, b' ' | b'-' | b'.')
}

fn is_local(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'%' | b'+' | b'-' | b'\'') || b >= 0x80
}

fn is_domain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_') || b >= 0x80
}

fn email(text: &[u8], at: usize) -> Option<Range<usize>> {
    let mut start = at;
    while start > 0 && at - start < LOCAL_BYTES_MAX && is_local(before(text, start)) {
        start -= 1;
    }
    // Never in the middle of a character, and not at the quote or dot before the name.
    while start < at && (byte(text, start) & 0xc0 == 0x80 || matches!(byte(text, start), b'\'' | b'.')) {
        start += 1;
    }
    if start == at {
        return None;
    }
    let mut end = at + 1;
    while end - at <= DOMAIN_BYTES_MAX && is_domain(byte(text, end)) && end < text.len() {
        end += 1;
    }
    while end < text.len() && byte(text, end) & 0xc0 == 0x80 {
        end += 1;
    }
    while end > at + 1 && matches!(before(text, end), b'.' | b'-' | b'_') {
        end -= 1;
    }
    let domain = text.get(at + 1..end)?;
    // Its last part that begins with a letter must have a dot before it: `bob@localhost` is not taken for an address.
    let dot = domain.windows(3).any(|w| {
        matches!(w, [b'.', first, second] if (first.is_ascii_alphabetic() || *first >= 0x80) && (second.is_ascii_alphanumeric() || *second >= 0x80 || *second == b'-'))
    });
    (dot && !domain.starts_with(b".")).then_some(start..end)
}

fn digits_from(text: &[u8], at: usize, max: usize) -> usize {
    text.iter()
        .skip(at)
        .take(max)
        .take_while(|b| b.is_ascii_digit())
        .count()
}

fn card(text: &[u8], at: usize) -> Option<Range<usize>> {
    let prev = before(text, at);
    // The digits of a fraction (`0.4111…`) are no card.
    if prev.is_ascii_digit() || (prev == b'.' && at >= 2 && byte(text, at - 2).is_ascii_digit()) {
        return None;
    }
    let bare = digits_from(text, at, 20);
    if bare >= 13 {
        let end = at + bare;
        return (bare <= 19 && is_card(text.get(at..end)?)).then_some(at..end);
    }
    if bare != 4 || !is_separator(byte(text, at + 4)) {
        return None;
    }
    match digits_from(text, at + 5, 7) {
        4 => fours(text, at),
        6 if is_separator(byte(text, at + 11)) => {
            let last = digits_from(text, at + 12, 6);
            let end = at + 12 + last;
            ((last == 4 || last == 5) && is_card(text.get(at..end)?)).then_some(at..end)
        }
        _ => None,
    }
}

/// Groups of four: 4-4-4-(1..4), and after four whole ones, a fifth of 1..3. The longest that holds.
fn fours(text: &[u8], at: usize) -> Option<Range<usize>> {
    let mut best = None;
    let (mut pos, mut groups) = (at, 0);
    while groups < 5 {
        let n = digits_from(text, pos, 5);
        if n == 0 || n == 5 || (groups < 3 && n != 4) || (groups == 4 && n == 4) {
            break;
        }
        let end = pos + n;
        groups += 1;
        if groups >= 4 && text.get(at..end).is_some_and(is_card) {
            best = Some(at..end);
        }
        if n < 4 || !is_separator(byte(text, end)) {
            break;
        }
        pos = end + 1;
    }
    best
}

/// Whether the digits in `text` (separators skipped) have a card scheme's prefix and length, and a right Luhn sum.
pub(crate) fn is_card(text: &[u8]) -> bool {
    let mut digits = [0u8; 19];
    let mut n = 0;
    for b in text.iter().filter(|b| b.is_ascii_digit()) {
        let Some(slot) = digits.get_mut(n) else {
            return false;
        };
        *slot = b - b'0';
        n += 1;
    }
    let Some(digits) = digits.get(..n) else {
        return false;
    };
    n >= 13 && scheme(digits) && luhn(digits)
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| {
            let d = u32::from(*d);
            if i % 2 == 0 {
                d
            } else if d > 4 {
                2 * d - 9
            } else {
                2 * d
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Issuer prefixes with the lengths that they come in.
fn scheme(digits: &[u8]) -> bool {
    let head = digits.iter().take(4).fold(0u32, |n, d| n * 10 + u32::from(*d));
    match (head, digits.len()) {
        // Visa
        (4000..=4999, 13 | 16 | 18 | 19) => true,
        // Mastercard
        (5100..=5599 | 2221..=2720, 16) => true,
        // American Express
        (3400..=3499 | 3700..=3799, 15) => true,
        // Mir
        (2200..=2204, 16..=19) => true,
        // JCB
        (1800 | 2131, 15) | (3528..=3589, 16..=19) => true,
        // Diners Club
        (3000..=3059 | 3095 | 3600..=3699 | 3800..=3999, 14..=19) => true,
        // Discover, UnionPay, Maestro and RuPay
        (6000..=6999, 14..=19) => true,
        (5000..=5099 | 5600..=5899, 13..=19) => true,
        // RuPay, Troy
        (8100..=8199 | 8200..=8299 | 9792, 16) => true,
        _ => false,
    }
}

fn ssn(text: &[u8], at: usize) -> Option<Range<usize>> {
    let end = at.checked_add(11)?;
    let value = text.get(at..end)?;
    if before(text, at).is_ascii_digit() || byte(text, end).is_ascii_digit() {
        return None;
    }
    let [a, b, c, s1, d, e, s2, f, g, h, i] = value else {
        return None;
    };
    let digits = [a, b, c, d, e, f, g, h, i];
    if !digits.iter().all(|d| d.is_ascii_digit()) || !is_separator(*s1) || s1 != s2 {
        return None;
    }
    let area = [*a, *b, *c];
    let given = area != *b"000"
        && area != *b"666"
        && *a != b'9'
        && [*d, *e] != *b"00"
        && [*f, *g, *h, *i] != *b"0000";
    given.then_some(at..end)
}

/// Countries of the IBAN registry with the length of their numbers.
const IBAN_LENGTHS: &[u8] = b"AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20YE30";

fn iban(text: &[u8], at: usize) -> Option<Range<usize>> {
    let country = text.get(at..at + 2)?;
    if before(text, at).is_ascii_alphanumeric()
        || !byte(text, at + 2).is_ascii_digit()
        || !byte(text, at + 3).is_ascii_digit()
    {
        return None;
    }
    let entry = IBAN_LENGTHS.chunks_exact(4).find(|e| e.starts_with(country))?;
    let length = entry
        .iter()
        .skip(2)
        .fold(0usize, |n, d| n * 10 + usize::from(d - b'0'));
    let mut chars = [0u8; 34];
    let (mut n, mut end) = (0, at);
    while n < length {
        let b = byte(text, end);
        if b.is_ascii_alphanumeric() {
            *chars.get_mut(n)? = b.to_ascii_uppercase();
            n += 1;
        } else if !(matches!(b, b' ' | b'-')
            && n.is_multiple_of(4)
            && byte(text, end + 1).is_ascii_alphanumeric())
        {
            return None;
        }
        end += 1;
    }
    if byte(text, end).is_ascii_alphanumeric() {
        return None;
    }
    let chars = chars.get(..n)?;
    let (head, tail) = chars.split_at_checked(4)?;
    let rest = tail.iter().chain(head).fold(0u32, |r, c| match c {
        b'0'..=b'9' => (r * 10 + u32::from(c - b'0')) % 97,
        _ => (r * 100 + u32::from(c.wrapping_sub(b'A')) + 10) % 97,
    });
    (rest == 1).then_some(at..end)
}

fn is_base64url(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=')
}

fn jwt(text: &[u8], at: usize) -> Option<Range<usize>> {
    if is_base64url(before(text, at)) || !text.get(at..)?.starts_with(b"eyJ") {
        return None;
    }
    let run = |from: usize| text.iter().skip(from).take_while(|b| is_base64url(**b)).count();
    let header = run(at);
    let dot = at + header;
    let payload = if byte(text, dot) == b'.' { run(dot + 1) } else { 0 };
    if header < 10 || payload < 4 {
        return None;
    }
    // The signature, and the further parts of an encrypted one.
    let mut end = dot + 1 + payload;
    for _ in 0..3 {
        if byte(text, end) != b'.' {
            break;
        }
        end += 1 + run(end + 1);
    }
    Some(at..end)
}

fn aws_key(text: &[u8], at: usize) -> Option<Range<usize>> {
    let end = at.checked_add(20)?;
    let value = text.get(at..end)?;
    let known = value.starts_with(b"AKIA") || value.starts_with(b"ASIA");
    let whole = !before(text, at).is_ascii_alphanumeric() && !byte(text, end).is_ascii_alphanumeric();
    (known && whole && value.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())).then_some(at..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<(Kind, &str)> {
        (0..text.len())
            .filter_map(|i| at(Kinds::EVERY, text.as_bytes(), i))
            .map(|(k, r)| (k, &text[r]))
            .collect()
    }

    #[test]
    fn addresses_are_found_with_their_exact_bounds() {
        assert_eq!(
            all("mail 'bob.o'brien+x@mail.example.co.uk'."),
            [(Kind::Email, "bob.o'brien+x@mail.example.co.uk")]
        );
        assert_eq!(
            all("{\"e\":\"jörg@bücher.de\"}"),
            [(Kind::Email, "jörg@bücher.de")]
        );
        assert_eq!(all("bob@localhost a@b @x.io x@.io"), []);
        assert_eq!(
            all("a@x.io,b@y.io"),
            [(Kind::Email, "a@x.io"), (Kind::Email, "b@y.io")]
        );
        let long = format!("{}@x.io", "é".repeat(100));
        assert!(
            all(&long)
                .iter()
                .all(|(_, s)| s.starts_with('é') && s.ends_with("@x.io"))
        );
    }

    #[test]
    fn cards_are_found_in_every_grouping_and_need_prefix_and_sum() {
        for card in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "3782 822463 10005",
            "378282246310005",
            "5555.5555.5555.4444",
            "2223003122003222",
            "30569309025904",
            "3056 930902 5904",
            "6011111111111117",
            "4222222222222",
        ] {
            assert_eq!(
                all(&format!("no. {card}, thanks")),
                [(Kind::PaymentCard, card)],
                "{card}"
            );
        }
        assert_eq!(all("4111111111111111 12/29 4111 1111 1111 1111 123").len(), 2);
        for no in [
            "4111111111111112",
            "0000000000000000",
            "1700000000000000000",
            "41111111111111111111",
            "0.4111111111111111",
            "2024-01-01 12:00:00.000000",
        ] {
            assert_eq!(all(no), [], "{no}");
        }
    }

    #[test]
    fn social_security_numbers_need_a_given_area() {
        assert_eq!(all("ssn 078-05-1120;"), [(Kind::UsSsn, "078-05-1120")]);
        assert_eq!(all("078 05 1120"), [(Kind::UsSsn, "078 05 1120")]);
        for no in [
            "000-12-3456",
            "666-12-3456",
            "912-12-3456",
            "123-00-4567",
            "123-45-0000",
            "123-45-67890",
            "1123-45-6789",
            "123-45 6789",
            "123456789",
        ] {
            assert_eq!(all(no), [], "{no}");
        }
    }

    #[test]
    fn ibans_tokens_and_keys_are_found() {
        assert_eq!(
            all("DE89370400440532013000"),
            [(Kind::Iban, "DE89370400440532013000")]
        );
        assert_eq!(
            all("to NL91 ABNA 0417 1643 00."),
            [(Kind::Iban, "NL91 ABNA 0417 1643 00")]
        );
        assert_eq!(all("DE88370400440532013000"), []);
        assert_eq!(
            all("AKIAIOSFODNN7EXAMPLE"),
            [(Kind::AwsKey, "AKIAIOSFODNN7EXAMPLE")]
        );
        assert_eq!(all("XAKIAIOSFODNN7EXAMPLE"), []);
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_DEF";
        assert_eq!(
            all(&format!("bearer {token} x")).first(),
            Some(&(Kind::Jwt, token))
        );
    }
}
