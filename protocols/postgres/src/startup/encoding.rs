//! Names of character encodings, as far as judge and target must agree on the bytes of a statement.
//!
//! The judge reads UTF-8. What a target reads:
//!
//! | `client_encoding` | `server_encoding` | the target reads | so |
//! | --- | --- | --- | --- |
//! | UTF8 | UTF8 | these bytes, checked to be UTF-8 | taken |
//! | SQL_ASCII | UTF8 | these bytes, checked to be UTF-8: nothing is converted | taken |
//! | UTF8, SQL_ASCII | SQL_ASCII | these bytes | taken; what is not UTF-8 the judge refuses |
//! | UTF8 | another | the same characters, converted | taken; see below |
//! | SQL_ASCII | another | these bytes as characters of `server_encoding` | refused: `é` would be two other letters |
//! | another | any | characters that the judge would have to convert | refused |
//!
//! Where `server_encoding` is neither UTF8 nor SQL_ASCII the conversion loses nothing, but two things are counted in the
//! server's bytes: names are cut at 63 of them, and in an encoding of one byte a name without quotes that has letters beyond
//! ASCII is folded to lower case by the server's locale, which the judge does not do.
//! Spec: PostgreSQL, pg_any_to_server(), clean_encoding_name(), downcase_identifier().

/// A client's encoding in which judge and target read the same bytes as the same text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientEncoding {
    /// UTF-8, under any of its names.
    #[default]
    Utf8,
    /// "Whatever the server has": what libpq asks for in a terminal without a locale.
    SqlAscii,
}

/// What a client asks for as `client_encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestedEncoding {
    /// Headgate can judge what is written in it.
    Read(ClientEncoding),
    /// PostgreSQL has it, and Headgate cannot judge what is written in it.
    NotRead,
    /// No encoding has this name.
    Unknown,
}

/// Of servers, but for UTF8 and SQL_ASCII; without `-` and `_`, in lower case, sorted.
const SERVERS: [&str; 33] = [
    "euccn",
    "eucjis2004",
    "eucjp",
    "euckr",
    "euctw",
    "iso88595",
    "iso88596",
    "iso88597",
    "iso88598",
    "koi8r",
    "koi8u",
    "latin1",
    "latin10",
    "latin2",
    "latin3",
    "latin4",
    "latin5",
    "latin6",
    "latin7",
    "latin8",
    "latin9",
    "muleinternal",
    "win1250",
    "win1251",
    "win1252",
    "win1253",
    "win1254",
    "win1255",
    "win1256",
    "win1257",
    "win1258",
    "win866",
    "win874",
];

/// Of clients alone, and other names of the same encodings (pg_encname_tbl); sorted.
const MORE: [&str; 42] = [
    "abc",
    "alt",
    "big5",
    "cp932",
    "gb18030",
    "gbk",
    "iso88591",
    "iso885910",
    "iso885913",
    "iso885914",
    "iso885915",
    "iso885916",
    "iso88592",
    "iso88593",
    "iso88594",
    "iso88599",
    "johab",
    "koi8",
    "mskanji",
    "shiftjis",
    "shiftjis2004",
    "sjis",
    "tcvn",
    "tcvn5712",
    "uhc",
    "vscii",
    "win",
    "win932",
    "win936",
    "win949",
    "win950",
    "windows1250",
    "windows1251",
    "windows1252",
    "windows1253",
    "windows1254",
    "windows1255",
    "windows1256",
    "windows1257",
    "windows1258",
    "windows866",
    "windows874",
];

/// As clean_encoding_name(): letters and digits only, in lower case; so `'utf-8'` with its quotes is UTF8.
fn clean(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

fn readable(clean: &str) -> Option<ClientEncoding> {
    match clean {
        "utf8" | "unicode" => Some(ClientEncoding::Utf8),
        "sqlascii" => Some(ClientEncoding::SqlAscii),
        _ => None,
    }
}

/// As pg_char_to_encoding() would find it.
pub fn asked(name: &str) -> RequestedEncoding {
    // Letters beyond ASCII fall out in the server, too; here they are doubt.
    if !name.is_ascii() {
        return RequestedEncoding::Unknown;
    }
    let clean = clean(name);
    match readable(&clean) {
        Some(encoding) => RequestedEncoding::Read(encoding),
        None if SERVERS.binary_search(&clean.as_str()).is_ok()
            || MORE.binary_search(&clean.as_str()).is_ok() =>
        {
            RequestedEncoding::NotRead
        }
        None => RequestedEncoding::Unknown,
    }
}

/// Whether a target that says it has `server_encoding` reads what a client of `encoding` writes as the judge does.
pub fn fits(encoding: ClientEncoding, server_encoding: &str) -> bool {
    let clean = clean(server_encoding);
    match readable(&clean) {
        Some(_) => true,
        None => encoding == ClientEncoding::Utf8 && SERVERS.binary_search(&clean.as_str()).is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_so_that_they_are_found() {
        assert!(SERVERS.is_sorted() && MORE.is_sorted());
    }

    #[test]
    fn what_drivers_and_terminals_ask_for_is_read() {
        for name in ["UTF8", "utf-8", "'utf-8'", "Unicode", "UTF_8"] {
            assert_eq!(
                asked(name),
                RequestedEncoding::Read(ClientEncoding::Utf8),
                "{name}"
            );
        }
        for name in ["SQL_ASCII", "sqlascii", "SQL-ASCII"] {
            assert_eq!(
                asked(name),
                RequestedEncoding::Read(ClientEncoding::SqlAscii),
                "{name}"
            );
        }
        for name in [
            "WIN1252",
            "LATIN1",
            "latin-1",
            "ISO-8859-15",
            "SJIS",
            "SHIFT_JIS_2004",
            "big5",
            "GB18030",
            "EUC_JP",
            "Windows-1252",
        ] {
            assert_eq!(asked(name), RequestedEncoding::NotRead, "{name}");
        }
        for name in ["nope", "", "auto", "utf16", "ut\u{17f}utf8"] {
            assert_eq!(asked(name), RequestedEncoding::Unknown, "{name}");
        }
    }

    #[test]
    fn without_a_conversion_only_utf8_and_no_encoding_are_read_alike() {
        for (server, utf8, sql_ascii) in [
            ("UTF8", true, true),
            ("SQL_ASCII", true, true),
            ("LATIN1", true, false),
            ("EUC_JP", true, false),
            ("SJIS", false, false),
            ("", false, false),
        ] {
            assert_eq!(
                (
                    fits(ClientEncoding::Utf8, server),
                    fits(ClientEncoding::SqlAscii, server)
                ),
                (utf8, sql_ascii),
                "{server}"
            );
        }
    }
}
