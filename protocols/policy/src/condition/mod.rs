//! `when`: a CEL expression, checked when the snapshot is compiled, evaluated with a bound on what it can cost.
//!
//! The root scope with CEL's functions is built once ([`Evaluator`]); building it costs 25 µs.
//! What there is to see stands in one table ([`fields`]). Only the fields that an expression names are built for it. What is too large to look at is an error, and an error
//! never helps the caller: an allow rule does not match, a deny or hold rule does.
//! Nothing here knows a clock: `now` is what the caller of the policy says it is.

mod check;
mod fields;

pub use fields::reference;
pub(crate) use fields::{Field, Read, Sample, Shown};

use crate::clock::Moment;
use crate::family::FamilySet;
use crate::part::Part;
use cel::objects::{Key, Map};
use cel::{Context as Scope, Env, ExecutionError, Program, Value};
use headgate_plane::{TargetSpec, Who};
use std::collections::HashMap;
use std::sync::Arc;

/// A longer expression is refused when the snapshot is compiled.
pub const WHEN_BYTES_MAX: usize = 2048;
/// Nesting of brackets and of the syntax tree.
pub const WHEN_DEPTH_MAX: usize = 64;
/// A longer text is not shown to a condition: looking at it is an error.
pub const CEL_TEXT_BYTES_MAX: usize = 64 * 1024;
/// A longer list is not shown to a condition.
pub const CEL_LIST_MAX: usize = 1024;
/// The same where a condition runs a pattern for each item.
pub const CEL_LIST_MAX_WITH_PATTERN: usize = 256;
/// The same where a condition has a loop in a loop.
pub const CEL_LIST_MAX_NESTED: usize = 64;

/// The root scope: CEL's own functions, no variables.
pub(crate) struct Evaluator {
    env: Arc<Env>,
    root: Scope<'static, 'static>,
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Evaluator")
    }
}

impl Evaluator {
    pub(crate) fn new() -> Evaluator {
        let env = Arc::new(Env::stdlib());
        Evaluator {
            root: Scope::with_env(env.clone()),
            env,
        }
    }

    /// Whether CEL has this function. Asks the interpreter, so that the answer is that of the evaluation.
    pub(crate) fn has_function(&self, name: &str, member: bool, arguments: usize) -> bool {
        let list = vec!["1"; arguments].join(",");
        let probe = if member {
            format!("(1).{name}({list})")
        } else {
            format!("{name}({list})")
        };
        let Ok(program) = self.env.compile(&probe) else {
            return false;
        };
        !matches!(
            program.execute(&self.root),
            Err(ExecutionError::UndeclaredReference(_))
        )
    }
}

#[derive(Debug)]
pub(crate) struct Condition {
    program: Program,
    /// What it names, by root as it is written there.
    roots: Vec<(&'static str, Vec<&'static Field>)>,
    list_max: usize,
}

/// Everything that a condition can be shown.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    /// `None` when the text has no facts.
    pub part: Option<&'a Part<'a>>,
    /// Statements in the message.
    pub statements: usize,
    pub parameters: Option<u32>,
    pub text: &'a [u8],
    pub who: &'a Who,
    pub target: &'a TargetSpec,
    pub moment: &'a Moment,
}

impl Condition {
    pub(crate) fn compile(source: &str, evaluator: &Evaluator) -> Result<Condition, String> {
        check::shape(source)?;
        let program = evaluator
            .env
            .compile(source)
            .map_err(|errors| format!("when: {errors}"))?;
        let fields = check::references(program.expression(), evaluator)?;
        let list_max = match (fields.loops, fields.pattern_in_loop) {
            (0 | 1, false) => CEL_LIST_MAX,
            (0 | 1, true) => CEL_LIST_MAX_WITH_PATTERN,
            _ => CEL_LIST_MAX_NESTED,
        };
        let condition = Condition {
            program,
            roots: fields.roots,
            list_max,
        };
        condition.rehearse(evaluator)?;
        Ok(condition)
    }

    /// What it names, each field at least once.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &'static Field> {
        self.roots.iter().flat_map(|(_, fields)| fields.iter().copied())
    }

    /// Whether the same statement can come to another answer later, or with other values in it.
    pub(crate) fn volatile(&self) -> bool {
        self.fields().any(|field| field.kept() == fields::Kept::Never)
    }

    /// Whether full names must be known before it is asked.
    pub(crate) fn names_wanted(&self) -> bool {
        self.fields().any(|field| field.names)
    }

    /// The families whose facts it looks at.
    pub(crate) fn speaks(&self) -> FamilySet {
        self.fields()
            .fold(FamilySet::EMPTY, |set, field| set.union(field.family()))
    }

    /// Evaluates once on made-up values, to find what can never work. Errors that depend on the data are let by.
    fn rehearse(&self, evaluator: &Evaluator) -> Result<(), String> {
        match self.evaluate(evaluator, |field| Ok(sample(field.sample))) {
            Ok(Value::Bool(_)) => Ok(()),
            Ok(_) => Err("when: must come to true or false".to_owned()),
            Err(Unshown::Cel(
                error @ (ExecutionError::NoSuchOverload(_)
                | ExecutionError::UndeclaredReference(_)
                | ExecutionError::UnexpectedType { .. }),
            )) => Err(format!("when: {error}")),
            Err(_) => Ok(()),
        }
    }

    /// `Err` says why it cannot be known.
    pub(crate) fn holds(&self, evaluator: &Evaluator, scene: &Scene<'_>) -> Result<bool, String> {
        match self.evaluate(evaluator, |field| self.value(field, field.show(scene)?)) {
            Ok(Value::Bool(answer)) => Ok(answer),
            Ok(_) => Err("the condition did not come to true or false".to_owned()),
            Err(Unshown::Cel(error)) => Err(error.to_string()),
            Err(Unshown::TooLarge(what)) => Err(format!("{what} is too large to look at")),
            Err(Unshown::ListTooLarge(field)) => Err(format!("{field:?} is too large to look at")),
            Err(Unshown::NoFacts) => Err("the statement cannot be read".to_owned()),
        }
    }

    fn evaluate(
        &self,
        evaluator: &Evaluator,
        value: impl Fn(&'static Field) -> Result<Value, Unshown>,
    ) -> Result<Value, Unshown> {
        let mut scope = evaluator.root.new_inner_scope();
        for (root, fields) in &self.roots {
            let mut map = HashMap::with_capacity(fields.len());
            for field in fields {
                map.insert(Key::from(field.name), value(field)?);
            }
            scope.add_variable_from_value(*root, Value::Map(Map { map: Arc::new(map) }));
        }
        self.program.execute(&scope).map_err(Unshown::Cel)
    }

    fn value(&self, field: &'static Field, shown: Shown<'_>) -> Result<Value, Unshown> {
        Ok(match shown {
            Shown::Bool(value) => Value::Bool(value),
            Shown::Number(value) => Value::Int(value),
            Shown::Text(text) => Value::from(text),
            Shown::Texts(list) if list.len() > self.list_max => return Err(Unshown::ListTooLarge(field)),
            Shown::Texts(list) => texts(list.iter().map(AsRef::as_ref)),
            Shown::Map(pairs) => map(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str()))),
        })
    }
}

fn texts<'a>(list: impl Iterator<Item = &'a str>) -> Value {
    Value::List(Arc::new(list.map(Value::from).collect()))
}

fn map<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    let pairs = pairs.map(|(k, v)| (Key::from(k), Value::from(v)));
    Value::Map(Map {
        map: Arc::new(pairs.collect()),
    })
}

fn sample(sample: Sample) -> Value {
    match sample {
        Sample::Bool(value) => Value::Bool(value),
        Sample::Number(value) => Value::Int(value),
        Sample::Text(text) => Value::from(text),
        Sample::Texts(list) => texts(list.iter().copied()),
        Sample::Map(key, value) => map(std::iter::once((key, value))),
    }
}

/// Why a condition has no answer.
pub(crate) enum Unshown {
    Cel(ExecutionError),
    TooLarge(&'static str),
    ListTooLarge(&'static Field),
    NoFacts,
}
