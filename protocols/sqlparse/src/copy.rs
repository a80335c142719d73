//! COPY: direction, where the bytes go, and the options that say how rows are written.
//!
//! Invariant: an option that is not in this table makes the statement opaque.

use crate::children::untyped;
use crate::extract::{Access, Extract, Place, constant};
use headgate_plane::Class;
use headgate_sql::{Action, Copy, CopyFormat, Relation};
use pg_raw_parse::raw::SetOperation;
use pg_raw_parse::{Node, nodes};

impl<'a> Extract<'a> {
    pub fn copy(&mut self, copy: &'a nodes::CopyStmt, place: Place) {
        let out = !copy.is_from;
        self.verb(if out { "copy to" } else { "copy from" });
        if !out {
            self.add(Class::Write);
        }
        let access = if out { Access::Read } else { Access::Write };
        if let Some(relation) = copy.relation() {
            self.push(Node::RangeVar(relation), place.with(access));
        }
        self.push(
            copy.query(),
            Place {
                command: true,
                ..place.inside()
            },
        );
        self.push(copy.where_clause(), place.inside());
        let columns: Vec<&str> = copy.attlist().iter().filter_map(Node::as_str).collect();
        self.columns.extend(columns.iter());
        self.unnamed_columns |= copy.relation().is_some() && columns.is_empty();
        // Files and programs of the target: whatever they hold, and whatever they do.
        if copy.is_program || copy.filename().is_some() {
            self.add(Class::Opaque);
            return;
        }
        let relation = copy.relation().map(|r| Relation {
            schema: r.schemaname().map(str::to_owned),
            name: r.relname().unwrap_or_default().to_owned(),
            read: out,
            written: !out,
        });
        match options(copy, out) {
            Some(options) => {
                self.set_action(Action::Copy(Copy {
                    relation,
                    columns: columns.iter().map(|c| (*c).to_owned()).collect(),
                    outputs: outputs(copy.query()),
                    ..options
                }));
            }
            None => self.add(Class::Opaque),
        }
    }
}

fn options(copy: &nodes::CopyStmt, out: bool) -> Option<Copy> {
    let mut format = CopyFormat::Text;
    let mut header = false;
    let (mut delimiter, mut quote, mut escape, mut null, mut encoding) = (None, None, None, None, None);
    for node in untyped(copy.options()) {
        let Node::DefElem(option) = node else { return None };
        let value = constant(option.arg());
        match option.defname()? {
            "format" => {
                format = match value?.as_str() {
                    "text" => CopyFormat::Text,
                    "csv" => CopyFormat::Csv,
                    "binary" => CopyFormat::Binary,
                    _ => return None,
                }
            }
            "header" => {
                header = !matches!(
                    value.as_deref().map(str::to_ascii_lowercase).as_deref(),
                    Some("false" | "off" | "0")
                )
            }
            "delimiter" => delimiter = Some(one_byte(&value?)?),
            "quote" => quote = Some(one_byte(&value?)?),
            "escape" => escape = Some(one_byte(&value?)?),
            "null" => null = Some(value?.into_bytes()),
            "encoding" => encoding = Some(value?),
            // How rows are quoted on the way out, or read on the way in; neither moves a column.
            "force_quote" | "force_not_null" | "force_null" | "freeze" | "default" | "on_error"
            | "log_verbosity" | "reject_limit" => {}
            _ => return None,
        }
    }
    let csv = format == CopyFormat::Csv;
    let quote = quote.unwrap_or(b'"');
    Some(Copy {
        out,
        format,
        delimiter: delimiter.unwrap_or(if csv { b',' } else { b'\t' }),
        quote,
        escape: escape.unwrap_or(quote),
        null: null.unwrap_or_else(|| if csv { Vec::new() } else { b"\\N".to_vec() }),
        header,
        relation: None,
        columns: Vec::new(),
        outputs: Vec::new(),
        encoding,
    })
}

fn one_byte(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [byte] => Some(*byte),
        _ => None,
    }
}

/// Names of what a copied query puts out; empty when a star hides the list.
fn outputs(query: Node<'_>) -> Vec<Option<String>> {
    let list: Vec<Node<'_>> = match query {
        Node::SelectStmt(select) => {
            // The arms of a set operation: as many outputs as the leftmost has, none of them plainly a column.
            let mut leaf = select;
            while let (true, Some(left)) = (leaf.op != SetOperation::SETOP_NONE, leaf.larg()) {
                leaf = left;
            }
            if let Some(row) = leaf.values_lists().first().and_then(|row| row.as_node_list()) {
                return vec![None; row.len()];
            }
            let names = targets(untyped(leaf.target_list()).iter());
            return if select.op == SetOperation::SETOP_NONE {
                names
            } else {
                vec![None; names.len()]
            };
        }
        Node::InsertStmt(s) => s
            .returning_clause()
            .map(|r| r.exprs().iter().collect())
            .unwrap_or_default(),
        Node::UpdateStmt(s) => s
            .returning_clause()
            .map(|r| r.exprs().iter().collect())
            .unwrap_or_default(),
        Node::DeleteStmt(s) => s
            .returning_clause()
            .map(|r| r.exprs().iter().collect())
            .unwrap_or_default(),
        Node::MergeStmt(s) => s
            .returning_clause()
            .map(|r| r.exprs().iter().collect())
            .unwrap_or_default(),
        _ => Vec::new(),
    };
    targets(list.into_iter())
}

fn targets<'a>(list: impl Iterator<Item = Node<'a>>) -> Vec<Option<String>> {
    let mut names = Vec::new();
    for node in list {
        let Node::ResTarget(target) = node else {
            return Vec::new();
        };
        match target.val() {
            Node::ColumnRef(column) => match column.fields().iter().next_back() {
                Some(Node::String(name)) => names.push(name.sval().map(str::to_owned)),
                _ => return Vec::new(),
            },
            // `(row).*` is a star too.
            Node::A_Indirection(i) if i.indirection().iter().any(|n| matches!(n, Node::A_Star(_))) => {
                return Vec::new();
            }
            _ => names.push(None),
        }
    }
    names
}
