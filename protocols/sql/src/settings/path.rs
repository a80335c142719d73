//! `search_path`: how its text is read, and whether one path only hides what another shows.
//!
//! Bounds: [`SCHEMAS_MAX`] schemas, [`SETTING_BYTES_MAX`] bytes; a longer one is not known.

/// Schemas of one path that are followed.
pub const SCHEMAS_MAX: usize = 256;
/// Bytes of a setting's text that is followed.
pub const SETTING_BYTES_MAX: usize = 16 << 10;

/// PostgreSQL keeps so many bytes of a name.
const NAME_BYTES_MAX: usize = 63;
const SPACES: [char; 6] = [' ', '\t', '\n', '\r', '\u{b}', '\u{c}'];

/// The schemas of a setting's text (`"$user", public`), by SplitIdentifierString(): separated by commas, quoted names as
/// they stand, others in lower case; an empty text is an empty list. `None`: the server would refuse it, it is beyond the
/// bounds, or how the server folds it is not known here.
pub fn of_setting(text: &str) -> Option<Vec<String>> {
    if text.len() > SETTING_BYTES_MAX {
        return None;
    }
    let mut rest = text.trim_start_matches(SPACES);
    let mut found = Vec::new();
    if rest.is_empty() {
        return Some(found);
    }
    loop {
        let mut name = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let (part, after) = quoted.split_once('"')?;
                name.push_str(part);
                match after.strip_prefix('"') {
                    Some(more) => {
                        name.push('"');
                        quoted = more;
                    }
                    None => {
                        rest = after;
                        break;
                    }
                }
            }
        } else {
            let end = rest
                .find(|c: char| c == ',' || SPACES.contains(&c))
                .unwrap_or(rest.len());
            let (word, after) = rest.split_at_checked(end)?;
            // Letters beyond ASCII are folded by the server's locale.
            if word.is_empty() || word.chars().any(|c| !c.is_ascii() && c.is_uppercase()) {
                return None;
            }
            name.push_str(&word.to_ascii_lowercase());
            rest = after;
        }
        found.push(schema_name(name));
        if found.len() > SCHEMAS_MAX {
            return None;
        }
        rest = rest.trim_start_matches(SPACES);
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start_matches(SPACES),
            None if rest.is_empty() => return Some(found),
            None => return None,
        }
    }
}

/// A name as the server keeps it.
pub fn schema_name(mut name: String) -> String {
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name
}

/// Whether everything that is found along `new` is found along `now` as well, and nothing before it: the same list, or
/// one with some schemas left out. No order is changed.
pub fn narrows<A: AsRef<str>, B: AsRef<str>>(now: &[A], new: &[B]) -> bool {
    let now = plain(now);
    let mut left = now.iter();
    plain(new).iter().all(|schema| left.any(|s| s == schema))
}

/// The path without what adds nothing: empty names (no schema has one), `pg_catalog` in front, where it is searched
/// anyway, and names that stand twice. `pg_temp` in front stays: new relations would go there.
fn plain<S: AsRef<str>>(path: &[S]) -> Vec<&str> {
    let mut list: Vec<&str> = Vec::with_capacity(path.len());
    for schema in path.iter().map(AsRef::as_ref) {
        let adds_nothing =
            schema.is_empty() || (list.is_empty() && schema == "pg_catalog") || list.contains(&schema);
        if !adds_nothing {
            list.push(schema);
        }
    }
    list
}

/// Whether a schema is searched before `pg_catalog`, so that a bare name that PostgreSQL brings along may be another one.
pub(crate) fn shadows_catalog<S: AsRef<str>>(path: &[S]) -> bool {
    plain(path).contains(&"pg_catalog")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Vec<String>> {
        of_setting(text)
    }

    #[test]
    fn a_setting_is_read_as_the_server_reads_it() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            (" \t", &[]),
            ("\"\"", &[""]),
            ("\"$user\", public", &["$user", "public"]),
            ("$user,public", &["$user", "public"]),
            ("Public , \"Public\"", &["public", "Public"]),
            ("\"we,ird\"\" one\",\tb", &["we,ird\" one", "b"]),
            ("public, pg_catalog", &["public", "pg_catalog"]),
        ];
        for (text, wanted) in table {
            assert_eq!(
                read(text),
                Some(wanted.iter().map(|s| (*s).to_owned()).collect()),
                "{text}"
            );
        }
        for text in [",", "a,", "a b", "\"a", "a,,b", "\"a\"b", "ÄB"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(
            read(&"é".repeat(40)).map(|p| p[0].len()),
            Some(62),
            "cut at a character's border"
        );
        assert_eq!(read(&"a".repeat(SETTING_BYTES_MAX + 1)), None);
        assert_eq!(read(&vec!["a"; SCHEMAS_MAX + 1].join(",")), None);
    }

    #[test]
    fn a_path_narrows_when_it_only_leaves_out() {
        let now = ["$user", "public", "shop"];
        for new in [
            &[][..],
            &[""],
            &["pg_catalog"],
            &["public"],
            &["$user", "shop"],
            &["pg_catalog", "public", "public"],
            &now,
        ] {
            assert!(narrows(&now, new), "{new:?}");
        }
        for new in [
            &["evil"][..],
            &["public", "evil"],
            &["shop", "public"],
            &["public", "pg_catalog"],
            &["pg_temp", "public"],
            &["Public"],
        ] {
            assert!(!narrows(&now, new), "{new:?}");
        }
        assert!(
            narrows(&["pg_catalog", "public"], &["public"])
                && narrows(&["public"], &["pg_catalog", "public"])
        );
        assert!(!narrows::<&str, _>(&[], &["public"]));
    }
}
