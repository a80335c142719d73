//! Reads the outputs of a view from the text of its rewrite rule (`pg_rewrite.ev_action`): for each column of the view,
//! the table and column that it plainly is, as PostgreSQL itself noted them for RowDescription.
//!
//! Only the top-level target list is read; anything not of the expected form gives `None`, and the caller of this then
//! takes every column of the view for computed. Bounds: linear in the text.

/// `(attnum of the view, table oid or 0, attnum of the table)`.
pub(super) type Output = (i16, u32, i16);

pub(super) fn outputs(tree: &str) -> Option<Vec<Output>> {
    let mut depth = 0usize;
    // Depth at which the entries of the top-level target list open, once it was met.
    let mut list: Option<usize> = None;
    let mut entry: (Option<i16>, Option<u32>, Option<i16>, bool) = (None, None, None, false);
    let mut key = "";
    let mut found = Vec::new();
    for token in Tokens(tree) {
        match token {
            "(" | "{" => {
                depth += 1;
                // `({QUERY :targetList (` : the list's own parenthesis is the third to open.
                if token == "(" && key == ":targetList" && depth == 3 && list.is_none() {
                    list = Some(depth);
                }
                if token == "{" && list == Some(depth - 1) {
                    entry = (None, None, None, false);
                }
            }
            ")" | "}" => {
                if token == "}" && list == Some(depth.checked_sub(1)?) {
                    let (Some(resno), Some(table), Some(column), junk) = entry else {
                        return None;
                    };
                    if !junk {
                        found.push((resno, table, column));
                    }
                }
                if token == ")" && list == Some(depth) {
                    return Some(found);
                }
                depth = depth.checked_sub(1)?;
            }
            word => {
                if list.is_some_and(|at| depth == at + 1) {
                    match key {
                        ":resno" => entry.0 = Some(word.parse().ok()?),
                        ":resorigtbl" => entry.1 = Some(word.parse().ok()?),
                        ":resorigcol" => entry.2 = Some(word.parse().ok()?),
                        ":resjunk" => entry.3 = word == "true",
                        _ => {}
                    }
                }
            }
        }
        key = if token.starts_with(':') { token } else { "" };
    }
    None
}

/// Brackets, and words between them. A backslash keeps the next character in its word; a quoted string is one word.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let first = *text.as_bytes().first()?;
        let mut end = 1;
        if first == b'"' {
            let mut escaped = false;
            for b in text.bytes().skip(1) {
                end += 1;
                match b {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => break,
                    _ => {}
                }
            }
        } else if !matches!(first, b'(' | b')' | b'{' | b'}') {
            let mut escaped = first == b'\\';
            for b in text.bytes().skip(1) {
                if !escaped && (b.is_ascii_whitespace() || matches!(b, b'(' | b')' | b'{' | b'}')) {
                    break;
                }
                escaped = !escaped && b == b'\\';
                end += 1;
            }
        }
        while !text.is_char_boundary(end) {
            end += 1;
        }
        let (token, rest) = text.split_at(end);
        self.0 = rest;
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_top_target_list_is_read() {
        let tree = r#"({QUERY :commandType 1 :rtable ({RTE :alias "a)b" :subquery {QUERY :targetList ({TARGETENTRY :expr {X} :resno 9 :resname \(\{ :resorigtbl 5 :resorigcol 5 :resjunk false})}}) :targetList ({TARGETENTRY :expr {VAR :resno 7} :resno 1 :resname a\ b :resorigtbl 16384 :resorigcol 2 :resjunk false} {TARGETENTRY :expr {F :args ({VAR})} :resno 2 :resname <> :resorigtbl 0 :resorigcol 0 :resjunk false} {TARGETENTRY :expr {VAR} :resno 3 :resorigtbl 1 :resorigcol 1 :resjunk true}) :override 0})"#;
        assert_eq!(outputs(tree), Some(vec![(1, 16384, 2), (2, 0, 0)]));
    }

    #[test]
    fn a_tree_of_another_form_gives_nothing() {
        for tree in [
            "",
            "<>",
            "(",
            ")}",
            "({QUERY :targetList <>})",
            "({QUERY :targetList ({TARGETENTRY :resno x}))",
            "({QUERY :targetList ({TARGETENTRY :resno 1})})",
            "\\",
            "\"",
            "é\\é",
        ] {
            assert_eq!(outputs(tree), None, "{tree}");
        }
    }
}
