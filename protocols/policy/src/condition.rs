//! `when`: a CEL expression, checked when the snapshot is compiled, evaluated with a bound on what it can cost.
//!
//! The root scope with CEL's functions is built once ([`Evaluator`]); building it costs 25 µs.
//! Only the fields that an expression names are built for it. What is too large to look at is an error, and an error
//! never helps the caller: an allow rule does not match, a deny or hold rule does.
//! Nothing here knows a clock: `now` is what the caller of the policy says it is.

use crate::check::{self, Fields};
use crate::clock::{Moment, weekday_name};
use crate::judge::Part;
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
    pub(crate) fields: Fields,
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
            fields,
            list_max,
        };
        condition.rehearse(evaluator)?;
        Ok(condition)
    }

    /// Evaluates once on a made-up statement, to find what can never work. Errors that depend on the data are let by.
    fn rehearse(&self, evaluator: &Evaluator) -> Result<(), String> {
        let (statement, names, who, target) = check::rehearsal();
        let part = Part::new(&statement, &names, &headgate_sql::settings::BEGAN);
        let moment = Moment::of(0);
        let scene = Scene {
            part: Some(&part),
            statements: 1,
            parameters: Some(1),
            text: b"select 1",
            who: &who,
            target: &target,
            moment: &moment,
        };
        match self.evaluate(evaluator, &scene) {
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
        match self.evaluate(evaluator, scene) {
            Ok(Value::Bool(answer)) => Ok(answer),
            Ok(_) => Err("the condition did not come to true or false".to_owned()),
            Err(Unshown::Cel(error)) => Err(error.to_string()),
            Err(Unshown::TooLarge(what)) => Err(format!("{what} is too large to look at")),
            Err(Unshown::NoFacts) => Err("the statement cannot be read".to_owned()),
        }
    }

    fn evaluate(&self, evaluator: &Evaluator, scene: &Scene<'_>) -> Result<Value, Unshown> {
        let mut scope = evaluator.root.new_inner_scope();
        if !self.fields.statement.is_empty() {
            let part = scene.part.ok_or(Unshown::NoFacts)?;
            scope.add_variable_from_value(
                "statement",
                self.object(&self.fields.statement, |f| self.statement(f, part, scene))?,
            );
        }
        if !self.fields.who.is_empty() {
            scope.add_variable_from_value("who", self.object(&self.fields.who, |f| self.who(f, scene.who))?);
        }
        if !self.fields.target.is_empty() {
            scope.add_variable_from_value(
                "target",
                self.object(&self.fields.target, |f| Ok(target(f, scene.target)))?,
            );
        }
        if !self.fields.now.is_empty() {
            scope.add_variable_from_value(
                "now",
                self.object(&self.fields.now, |f| Ok(now(f, scene.moment)))?,
            );
        }
        self.program.execute(&scope).map_err(Unshown::Cel)
    }

    fn object(
        &self,
        fields: &[&'static str],
        value: impl Fn(&str) -> Result<Value, Unshown>,
    ) -> Result<Value, Unshown> {
        let mut map = HashMap::with_capacity(fields.len());
        for field in fields {
            map.insert(Key::from(*field), value(field)?);
        }
        Ok(Value::Map(Map { map: Arc::new(map) }))
    }

    fn list<S: AsRef<str>>(
        &self,
        what: &'static str,
        items: impl ExactSizeIterator<Item = S>,
    ) -> Result<Value, Unshown> {
        if items.len() > self.list_max {
            return Err(Unshown::TooLarge(what));
        }
        Ok(Value::List(Arc::new(
            items.map(|s| Value::from(s.as_ref())).collect(),
        )))
    }

    fn statement(&self, field: &str, part: &Part<'_>, scene: &Scene<'_>) -> Result<Value, Unshown> {
        let relations = |wanted: fn(&crate::ResolvedRelation) -> bool, what| {
            let names: Vec<String> = part
                .names
                .relations
                .iter()
                .filter(|r| wanted(r))
                .map(|r| format!("{}.{}", r.schema, r.name))
                .collect();
            self.list(what, names.iter())
        };
        let statement = part.statement;
        Ok(match field {
            "class" => self.list(
                "statement.class",
                part.class.iter().map(|c| c.name()).collect::<Vec<_>>().iter(),
            )?,
            "verbs" => self.list("statement.verbs", statement.verbs.iter())?,
            "relations" => relations(|_| true, "statement.relations")?,
            "relations_read" => relations(|r| r.read, "statement.relations_read")?,
            "relations_written" => relations(|r| r.written, "statement.relations_written")?,
            "columns" => self.list("statement.columns", statement.columns.iter())?,
            "functions" => {
                let names: Vec<String> = part.names.functions.iter().map(ToString::to_string).collect();
                self.list("statement.functions", names.iter())?
            }
            "has_where" => Value::Bool(statement.has_where),
            "has_limit" => Value::Bool(statement.has_limit),
            "statements" => Value::Int(i64::try_from(scene.statements).unwrap_or(i64::MAX)),
            "parameters" => Value::Int(
                scene
                    .parameters
                    .map_or(i64::from(statement.parameters), i64::from),
            ),
            "text" if scene.text.len() > CEL_TEXT_BYTES_MAX => {
                return Err(Unshown::TooLarge("statement.text"));
            }
            "text" => match std::str::from_utf8(scene.text) {
                Ok(text) => Value::from(text),
                Err(_) => return Err(Unshown::NoFacts),
            },
            _ => Value::Null,
        })
    }

    fn who(&self, field: &str, who: &Who) -> Result<Value, Unshown> {
        Ok(match field {
            "principal" => Value::from(who.principal.as_str()),
            "groups" => self.list("who.groups", who.groups.iter())?,
            "actor" => Value::from(who.actor()),
            "chain" => self.list("who.chain", who.chain.iter())?,
            "issuer" => Value::from(who.issuer.as_str()),
            "address" => Value::from(who.address.as_str()),
            "application" => Value::from(who.application.as_str()),
            _ => Value::Null,
        })
    }
}

fn target(field: &str, target: &TargetSpec) -> Value {
    match field {
        "name" => Value::from(target.name.as_str()),
        "environment" => Value::from(target.environment.as_str()),
        "protocol" => Value::from(target.protocol.as_str()),
        "database" => Value::from(target.database.as_str()),
        "labels" => {
            let labels = target
                .labels
                .iter()
                .map(|(k, v)| (Key::from(k.as_str()), Value::from(v.as_str())))
                .collect();
            Value::Map(Map {
                map: Arc::new(labels),
            })
        }
        _ => Value::Null,
    }
}

fn now(field: &str, moment: &Moment) -> Value {
    match field {
        "unix" => Value::Int(moment.unix),
        "year" => Value::Int(moment.year),
        "month" => Value::Int(moment.month),
        "day" => Value::Int(moment.day),
        "hour" => Value::Int(i64::from(moment.minute_of_day / 60)),
        "minute" => Value::Int(i64::from(moment.minute_of_day % 60)),
        "weekday" => Value::from(weekday_name(moment.weekday)),
        _ => Value::Null,
    }
}

enum Unshown {
    Cel(ExecutionError),
    TooLarge(&'static str),
    NoFacts,
}
