//! What a CEL expression may name, found out before it is ever evaluated.
//!
//! Invariant: an expression that passes names only variables and fields of the tables below and functions that CEL has;
//! its depth is at most [`WHEN_DEPTH_MAX`], and loops are at most [`LOOPS_MAX`] deep.

use super::fields::{self, Field};
use super::{Evaluator, WHEN_BYTES_MAX, WHEN_DEPTH_MAX};
use cel::common::ast::{EntryExpr, Expr, IdedExpr};

const LOOPS_MAX: usize = 2;

const TYPES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];

/// The fields that an expression names, each once for each root that it is written under.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    pub roots: Vec<(&'static str, Vec<&'static Field>)>,
    /// How deep loops (`all`, `exists`, `map`, …) stand in each other.
    pub loops: usize,
    pub pattern_in_loop: bool,
}

/// Bounds the text before the parser, which recurses, sees it.
pub(crate) fn shape(source: &str) -> Result<(), String> {
    if source.trim().is_empty() {
        return Err("when: is empty".to_owned());
    }
    if source.len() > WHEN_BYTES_MAX {
        return Err(format!("when: is longer than {WHEN_BYTES_MAX} bytes"));
    }
    let (mut depth, mut prefixes) = (0usize, 0usize);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'!' | b'-' | b'?' => prefixes += 1,
            _ => {}
        }
        // Brackets inside literals count as well: harmless, and no second lexer is needed.
        if depth > WHEN_DEPTH_MAX || prefixes > WHEN_DEPTH_MAX * 2 {
            return Err(format!("when: is nested deeper than {WHEN_DEPTH_MAX}"));
        }
    }
    Ok(())
}

pub(crate) fn references(expression: &IdedExpr, evaluator: &Evaluator) -> Result<Fields, String> {
    let mut walk = Walk {
        evaluator,
        bound: Vec::new(),
        fields: Fields::default(),
        loops: 0,
    };
    walk.expression(expression, 0)?;
    Ok(walk.fields)
}

struct Walk<'a> {
    evaluator: &'a Evaluator,
    /// Variables of the loops around.
    bound: Vec<String>,
    fields: Fields,
    loops: usize,
}

impl Walk<'_> {
    fn expression(&mut self, expression: &IdedExpr, depth: usize) -> Result<(), String> {
        if depth > WHEN_DEPTH_MAX {
            return Err(format!("when: is nested deeper than {WHEN_DEPTH_MAX}"));
        }
        let depth = depth + 1;
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.identifier(name),
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(root)
                    if !self.bound.contains(root)
                        && let Some(root) = fields::root(plain(root)) =>
                {
                    self.field(root, &select.field)
                }
                _ => self.expression(&select.operand, depth),
            },
            Expr::Call(call) => {
                self.function(&call.func_name, call.target.is_some(), call.args.len())?;
                if let Some(target) = &call.target {
                    self.expression(target, depth)?;
                }
                call.args.iter().try_for_each(|a| self.expression(a, depth))
            }
            Expr::List(list) => list.elements.iter().try_for_each(|e| self.expression(e, depth)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.expression(&entry.key, depth)?;
                    self.expression(&entry.value, depth)
                }
                EntryExpr::StructField(field) => self.expression(&field.value, depth),
            }),
            Expr::Struct(message) => Err(format!("when: there is no type `{}`", message.type_name)),
            Expr::Comprehension(comprehension) => {
                let c = comprehension.as_ref();
                self.expression(&c.iter_range, depth)?;
                let before = self.bound.len();
                for name in [Some(&c.iter_var), c.iter_var2.as_ref(), Some(&c.accu_var)]
                    .into_iter()
                    .flatten()
                {
                    if fields::root(name).is_some() {
                        return Err(format!("when: a loop's variable cannot be called `{name}`"));
                    }
                    self.bound.push(name.clone());
                }
                self.loops += 1;
                self.fields.loops = self.fields.loops.max(self.loops);
                if self.loops > LOOPS_MAX {
                    return Err(format!(
                        "when: loops stand more than {LOOPS_MAX} deep in each other"
                    ));
                }
                for inner in [&c.accu_init, &c.loop_cond, &c.loop_step, &c.result] {
                    self.expression(inner, depth)?;
                }
                self.loops -= 1;
                self.bound.truncate(before);
                Ok(())
            }
        }
    }

    fn identifier(&self, name: &str) -> Result<(), String> {
        if name.starts_with('@') || self.bound.iter().any(|b| b == name) || TYPES.contains(&name) {
            return Ok(());
        }
        if let Some(root) = fields::root(plain(name)) {
            let example = fields::of_root(root).next().map_or("", |field| field.name);
            return Err(format!(
                "when: `{root}` is used through its fields only, as in `{root}.{example}`"
            ));
        }
        Err(format!(
            "when: there is no variable `{name}`; there are {}",
            fields::roots().join(", ")
        ))
    }

    fn field(&mut self, root: &'static str, name: &str) -> Result<(), String> {
        let Some(field) = fields::of_root(root).find(|field| field.name == name) else {
            let known: Vec<&str> = fields::of_root(root).map(|field| field.name).collect();
            return Err(format!(
                "when: `{root}` has no field `{name}`; it has {}",
                known.join(", ")
            ));
        };
        let seen = &mut self.fields.roots;
        let at = seen.iter().position(|(known, _)| *known == root);
        let at = at.unwrap_or_else(|| {
            seen.push((root, Vec::new()));
            seen.len() - 1
        });
        if let Some((_, list)) = seen.get_mut(at)
            && !list.iter().any(|known| std::ptr::eq(*known, field))
        {
            list.push(field);
        }
        Ok(())
    }

    fn function(&mut self, name: &str, member: bool, arguments: usize) -> Result<(), String> {
        let operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
        if !operator && !self.evaluator.has_function(name, member, arguments) {
            return Err(format!("when: there is no function `{name}`"));
        }
        if name == "matches" && self.loops > 0 {
            self.fields.pattern_in_loop = true;
        }
        Ok(())
    }
}

/// `.who` is `who` of the outermost scope.
fn plain(name: &str) -> &str {
    name.strip_prefix('.').unwrap_or(name)
}
