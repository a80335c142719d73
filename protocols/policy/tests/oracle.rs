//! A naive evaluator of rules, written from docs/rules.md, says the same as the judge: random rules, callers, targets of every
//! protocol, and messages.

mod support;

use headgate_plane::{Class, ClassSet, Effect, Protocol, Rule, RuleSql, TargetSpec, Who};
use headgate_policy::family::sql::Message;
use headgate_policy::{Asked, Judgeable, Part, Parts, Unread};
use headgate_sql::builtin::{RelationKind, relation};
use headgate_sql::settings::BEGAN;
use headgate_sql::{Facts, Needs, SessionSettings, Statement};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select as one_of, subsequence};
use support::*;

/// A statement of a protocol that has no family.
#[derive(Clone, Debug)]
struct Plain {
    class: ClassSet,
    verbs: Vec<String>,
    resources: Vec<String>,
}

/// A message of such statements.
struct Plains(Vec<Plain>);

impl Judgeable for Plains {
    fn read(&self) -> Result<Parts<'_>, Unread> {
        Ok(Parts {
            list: self
                .0
                .iter()
                .map(|plain| Part::new(plain.class, &plain.verbs).about(&plain.resources))
                .collect(),
            statements: self.0.len(),
            lasting: true,
        })
    }
}

/// One statement, as the oracle sees it.
struct Seen<'a> {
    class: ClassSet,
    verbs: &'a [String],
    resources: Vec<String>,
    /// Settings that need a rule which names them.
    opens: Vec<String>,
    pinned: bool,
    sql: Option<&'a Statement>,
}

const FREE: [Class; 3] = [Class::Session, Class::Transaction, Class::Catalog];

fn full(schema: Option<&str>, name: &str) -> String {
    match schema {
        Some(schema) => format!("{schema}.{name}"),
        None if relation(None, name) != RelationKind::User => format!("pg_catalog.{name}"),
        None => format!("?.{name}"),
    }
}

fn function(f: &headgate_sql::Function) -> String {
    format!("{}.{}", f.schema.as_deref().unwrap_or("pg_catalog"), f.name)
}

fn see<'a>(statement: &'a Statement, session: &SessionSettings) -> Seen<'a> {
    // On a path that nobody knows no bare name is PostgreSQL's own, and whatever it is may be read.
    let doubt = session.search_path().shadows_catalog();
    let bare = |r: &headgate_sql::Relation| doubt && r.schema.is_none();
    let reads = statement.relations.iter().any(|r| bare(r) && r.read);
    let name = |r: &headgate_sql::Relation| match bare(r) {
        true => format!("?.{}", r.name),
        false => full(r.schema.as_deref(), &r.name),
    };
    let mut seen = Seen {
        class: if reads {
            statement.class.with(Class::Read)
        } else {
            statement.class
        },
        verbs: &statement.verbs,
        resources: statement.relations.iter().map(name).collect(),
        opens: Vec::new(),
        pinned: false,
        sql: Some(statement),
    };
    for change in &statement.settings {
        match change.needs(session) {
            Needs::Nothing => {}
            Needs::Rule(name) => seen.opens.push(name.to_owned()),
            Needs::Never(_) => seen.pinned = true,
        }
    }
    seen
}

/// `pattern` is `*`, `schema.*` or a full name.
fn in_pattern(pattern: &str, name: &str) -> bool {
    pattern == "*"
        || pattern == name
        || pattern
            .strip_suffix(".*")
            .is_some_and(|schema| name.split_once('.').is_some_and(|(of, _)| of == schema))
}

fn in_list(list: &[String], name: &str) -> bool {
    list.iter().any(|pattern| in_pattern(pattern, name))
}

/// A bare function is one of pg_catalog.
fn in_functions(list: &[String], name: &str) -> bool {
    list.iter().any(|pattern| {
        let bare = pattern != "*" && !pattern.contains('.');
        let pattern = if bare {
            format!("pg_catalog.{pattern}")
        } else {
            pattern.clone()
        };
        in_pattern(&pattern, name)
    })
}

fn unresolved(name: &str) -> bool {
    name.starts_with("?.")
}

fn meets_names(list: &[String], names: &[String]) -> bool {
    list.is_empty() || names.iter().any(|name| unresolved(name) || in_list(list, name))
}

fn covers_names(list: &[String], seen: &Seen<'_>) -> bool {
    let along = |name: &str| {
        let (schema, name) = name.split_once('.').unwrap_or(("", name));
        seen.class.contains(Class::Catalog) && relation(Some(schema), name) == RelationKind::Catalog
    };
    let sure = |name: &String| {
        if unresolved(name) {
            list.contains(&"*".to_owned())
        } else {
            in_list(list, name) || along(name)
        }
    };
    list.is_empty() || seen.resources.iter().all(sure)
}

fn speaks_sql(rule: &Rule) -> bool {
    *rule.statement.sql() != RuleSql::default()
        || rule.when.as_deref().is_some_and(|w| w.contains("has_where"))
}

fn is_sql(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Postgres | Protocol::Mysql)
}

fn applies(rule: &Rule, who: &Who, target: &TargetSpec) -> bool {
    let any = |list: &[String], of: &[String]| list.is_empty() || of.iter().any(|x| list.contains(x));
    let chain: Vec<String> = who.chain.iter().chain([&who.principal]).cloned().collect();
    let names = &rule.target.names;
    let protocols = &rule.target.protocols;
    let sql = is_sql(target.protocol);
    let said = !protocols.is_empty() || !names.is_empty() || rule.effect != Effect::Allow;
    any(&rule.who.groups, &who.groups)
        && any(&rule.who.chain, &chain)
        && (names.is_empty() || names.contains(&target.name))
        && (protocols.is_empty() || protocols.contains(&target.protocol))
        && (sql || !speaks_sql(rule))
        && (sql || said)
}

/// `None`: it cannot be known.
fn when(rule: &Rule, seen: &Seen<'_>, text: &str, now_hour: u64, who: &Who) -> Option<bool> {
    match rule.when.as_deref() {
        None => Some(true),
        Some("statement.has_where" | "sql.has_where") => Some(seen.sql?.has_where),
        Some("statement.text.contains('x')") => Some(text.contains('x')),
        Some("now.hour < 9") => Some(now_hour < 9),
        Some("target.labels.none == 'x'") => None,
        Some("who.principal == 'alice'") => Some(who.principal == "alice"),
        Some("'select' in statement.verbs") => Some(seen.verbs.contains(&"select".to_owned())),
        Some("size(statement.resources) > 1") => Some(seen.resources.len() > 1),
        Some(other) => panic!("the oracle does not know {other}"),
    }
}

struct World<'a> {
    who: &'a Who,
    text: &'a str,
    now_hour: u64,
}

fn meets(rule: &Rule, seen: &Seen<'_>, world: &World<'_>) -> bool {
    let wanted = &rule.statement;
    let sql = wanted.sql();
    let of_sql = match seen.sql {
        None => !speaks_sql(rule),
        Some(statement) => {
            let functions: Vec<String> = statement.functions.iter().map(function).collect();
            let called = |name: &String| statement.functions.iter().any(|f| f.name == *name);
            meets_names(&sql.relations, &seen.resources)
                && (sql.functions.is_empty() || functions.iter().any(|f| in_functions(&sql.functions, f)))
                && (sql.columns.is_empty()
                    || statement.unnamed_columns
                    || statement.columns.iter().any(|c| in_list(&sql.columns, c))
                    || sql.columns.iter().any(called))
                && (sql.settings.is_empty()
                    || statement.settings.iter().any(|s| sql.settings.contains(&s.name)))
        }
    };
    of_sql
        && wanted.class.is_none_or(|class| class.intersects(seen.class))
        && (wanted.verbs.is_empty() || wanted.verbs.iter().any(|v| seen.verbs.contains(v)))
        && meets_names(&wanted.resources, &seen.resources)
        && when(rule, seen, world.text, world.now_hour, world.who).unwrap_or(true)
}

fn free(seen: &Seen<'_>) -> bool {
    seen.class.minus(ClassSet::of(&FREE)).is_empty() && !seen.pinned && seen.opens.is_empty()
}

fn covers(rule: &Rule, seen: &Seen<'_>, world: &World<'_>) -> bool {
    let granted = &rule.statement;
    let sql = granted.sql();
    let named =
        sql.danger_unpinned || (!seen.pinned && seen.opens.iter().all(|name| sql.settings.contains(name)));
    let spoken = seen.sql.is_some() || !speaks_sql(rule);
    let condition = when(rule, seen, world.text, world.now_hour, world.who).unwrap_or(false);
    if !named || !spoken || !condition {
        return false;
    }
    let needs = seen.class.minus(ClassSet::of(&FREE));
    if needs.is_empty() {
        return true;
    }
    let only_settings = !sql.settings.is_empty()
        && !sql.danger_unpinned
        && granted.verbs.is_empty()
        && granted.resources.is_empty()
        && sql.relations.is_empty()
        && sql.functions.is_empty()
        && sql.columns.is_empty();
    let class = match granted.class {
        Some(class) => needs.minus(class).is_empty(),
        None => !only_settings && (granted.danger_unreadable || !needs.contains(Class::Opaque)),
    };
    let of_sql = seen.sql.is_none_or(|statement| {
        covers_names(&sql.relations, seen)
            && (sql.functions.is_empty()
                || statement
                    .functions
                    .iter()
                    .all(|f| in_functions(&sql.functions, &function(f))))
            && (sql.columns.is_empty()
                || sql.columns.contains(&"*".to_owned())
                || (!statement.unnamed_columns && statement.columns.iter().all(|c| sql.columns.contains(c))))
    });
    class
        && of_sql
        && (granted.verbs.is_empty() || seen.verbs.iter().all(|v| granted.verbs.contains(v)))
        && covers_names(&granted.resources, seen)
}

/// The effect, and the first rule that decides.
fn oracle(
    rules: &[Rule],
    target: &TargetSpec,
    all: &[Seen<'_>],
    world: &World<'_>,
) -> (Effect, Option<usize>) {
    let mine = |effect: Effect| {
        rules
            .iter()
            .enumerate()
            .filter(move |(_, rule)| rule.effect == effect && applies(rule, world.who, target))
    };
    if let Some((at, _)) = mine(Effect::Deny).find(|(_, rule)| all.iter().any(|s| meets(rule, s, world))) {
        return (Effect::Deny, Some(at));
    }
    let held_by = mine(Effect::Hold)
        .find(|(_, rule)| all.iter().any(|s| meets(rule, s, world)))
        .map(|(at, _)| at);
    let stands_in = |seen: &Seen<'_>| {
        let holding: Vec<&Rule> = mine(Effect::Hold)
            .map(|(_, rule)| rule)
            .filter(|rule| meets(rule, seen, world))
            .collect();
        let opened = |name: &String| {
            holding
                .iter()
                .any(|rule| rule.statement.sql().settings.contains(name))
        };
        !holding.is_empty() && !seen.pinned && seen.opens.iter().all(opened)
    };
    let left: Vec<&Seen<'_>> = all.iter().filter(|seen| !stands_in(seen)).collect();
    let access = mine(Effect::Allow).next().is_some();
    let by = mine(Effect::Allow)
        .find(|(_, rule)| left.iter().all(|seen| free(seen) || covers(rule, seen, world)))
        .map(|(at, _)| at);
    let all_free = left.iter().all(|seen| free(seen));
    let opened = left.is_empty() || if all_free { access } else { by.is_some() };
    match (held_by, opened) {
        (Some(at), true) => (Effect::Hold, Some(at)),
        (None, true) => (Effect::Allow, if all_free { None } else { by }),
        (_, false) => (Effect::Deny, None),
    }
}

fn names(all: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
    subsequence(all.to_vec(), 0..=most).prop_map(|n| strings(&n))
}

fn classes() -> impl Strategy<Value = ClassSet> {
    subsequence(Class::ALL.to_vec(), 1..=3).prop_map(|c| ClassSet::of(&c))
}

/// Mostly the first.
fn sparse(list: impl Strategy<Value = Vec<String>>) -> impl Strategy<Value = Vec<String>> {
    proptest::option::weighted(0.3, list).prop_map(Option::unwrap_or_default)
}

prop_compose! {
    fn any_sql()(
        relations in sparse(names(&["public.orders", "public.*", "hr.*", "*"], 2)),
        functions in sparse(names(&["lower", "app.*", "*"], 1)),
        columns in sparse(names(&["id", "email", "f", "*"], 2)),
        settings in sparse(names(&["role", "search_path"], 2)),
        danger_unpinned in proptest::bool::weighted(0.1),
    ) -> RuleSql {
        RuleSql { relations, functions, columns, settings, danger_unpinned }
    }
}

prop_compose! {
    fn any_rule()(
        effect in one_of(vec![Effect::Allow, Effect::Allow, Effect::Allow, Effect::Hold, Effect::Deny]),
        class in proptest::option::of(classes()),
        verbs in sparse(names(&["select", "delete", "do"], 2)),
        resources in sparse(names(&["public.orders", "public.*", "hr.*", "*"], 2)),
        sql in any_sql(),
        groups in sparse(names(&["staff", "dba"], 1)),
        chain in sparse(names(&["agent"], 1)),
        targets in sparse(names(&["orders", "other"], 1)),
        protocols in proptest::option::weighted(0.3, subsequence(Protocol::ALL.to_vec(), 1..=3)),
        when in one_of(vec![None, None, None, Some("statement.has_where"), Some("sql.has_where"),
            Some("statement.text.contains('x')"), Some("now.hour < 9"), Some("target.labels.none == 'x'"),
            Some("who.principal == 'alice'"), Some("'select' in statement.verbs"), Some("size(statement.resources) > 1")]),
        unreadable in proptest::bool::weighted(0.1),
    ) -> Rule {
        with(rule("any", effect), |r| {
            r.statement.class = class;
            r.statement.verbs = verbs;
            r.statement.resources = resources;
            *r.statement.sql_mut() = sql;
            r.who.chain = if groups.is_empty() && effect == Effect::Allow { vec![] } else { chain };
            r.who.groups = groups;
            r.target.names = targets;
            r.target.protocols = protocols.unwrap_or_default();
            r.when = when.map(Into::into);
            r.statement.danger_unreadable = unreadable && effect == Effect::Allow;
            if effect != Effect::Allow { r.statement.sql_mut().danger_unpinned = false; }
        })
    }
}

prop_compose! {
    fn any_statement()(
        class in classes(),
        verbs in names(&["select", "delete", "do"], 2),
        read in names(&["public.orders", "hr.salaries", "orders", "pg_catalog.pg_class", "pg_catalog.pg_stats"], 2),
        functions in names(&["lower", "upper", "app.f"], 2),
        columns in names(&["id", "email", "name"], 2),
        has_where in any::<bool>(),
        unnamed_columns in proptest::bool::weighted(0.2),
        setting in proptest::option::weighted(0.2, one_of(vec![sets("role", "admin"), sets("client_encoding", "SJIS"),
            sets("work_mem", "1"), sets_path(&[])])),
    ) -> Statement {
        let read: Vec<&str> = read.iter().map(String::as_str).collect();
        let functions: Vec<&str> = functions.iter().map(String::as_str).collect();
        let settings = setting.map_or_else(Vec::new, |s| s.settings);
        let bare = Statement { class, verbs, has_where, settings, columns, unnamed_columns, ..Statement::default() };
        calls(reads(bare, &read), &functions)
    }
}

prop_compose! {
    fn any_plain()(
        class in classes(),
        verbs in names(&["select", "delete", "do"], 2),
        resources in names(&["public.orders", "hr.salaries", "other"], 2),
    ) -> Plain {
        Plain { class, verbs, resources }
    }
}

prop_compose! {
    fn any_who()(groups in names(&["staff", "dba"], 2), chain in names(&["agent", "other"], 2), bob in any::<bool>()) -> Who {
        Who { groups, chain, principal: if bob { "bob".into() } else { "alice".into() }, ..alice() }
    }
}

/// Rules that are refused whole, since what they say can never be, are left out.
fn valid(rules: Vec<Rule>) -> Vec<Rule> {
    rules
        .into_iter()
        .filter(|rule| try_compile(vec![rule.clone()]).is_ok())
        .collect()
}

/// A resource of a protocol without a family is compared whole.
fn plainly(mut rule: Rule) -> Rule {
    rule.statement.resources.retain(|name| !name.ends_with(".*"));
    rule
}

const HOURS: u64 = 3_600_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_judge_says_of_sql_what_the_naive_evaluator_says(
        rules in vec(any_rule(), 0..7), who in any_who(), statements in vec(any_statement(), 0..4),
        mysql in any::<bool>(), text in one_of(vec!["text", "none"]), now_hour in 0u64..24,
    ) {
        let rules = valid(rules);
        let target = TargetSpec { protocol: if mysql { Protocol::Mysql } else { Protocol::Postgres }, ..orders() };
        let facts = Facts { statements };
        let compiled = compile(rules.clone());
        let what = Message { facts: Ok(&facts), resolved: &[], session: &BEGAN };
        let asked = Asked { what: &what, text: text.as_bytes(), parameters: None, who: &who, target: &target, now_unix_ms: now_hour * HOURS };
        let verdict = compiled.judge(&compiled.context(&who, &target), &asked);

        let nothing = Statement { has_where: true, ..Statement::default() };
        let mut session = BEGAN.clone();
        let mut all = Vec::new();
        for statement in &facts.statements {
            all.push(see(statement, &session));
            session.foresee(statement);
        }
        if all.is_empty() {
            all.push(see(&nothing, &session));
        }
        let world = World { who: &who, text, now_hour };
        let (effect, by) = oracle(&rules, &target, &all, &world);
        prop_assert_eq!((verdict.effect, verdict.rule.map(|at| at as usize)), (effect, by), "{:?}", verdict.why);
    }

    #[test]
    fn the_judge_says_of_what_has_no_family_what_the_naive_evaluator_says(
        rules in vec(any_rule(), 0..7), who in any_who(), plain in vec(any_plain(), 0..4),
        protocol in one_of(Protocol::ALL.into_iter().filter(|p| !is_sql(*p)).collect::<Vec<_>>()), text in one_of(vec!["text", "none"]), now_hour in 0u64..24,
    ) {
        let rules: Vec<Rule> = valid(rules).into_iter().map(plainly).collect();
        let target = TargetSpec { protocol, ..orders() };
        let compiled = compile(rules.clone());
        let plain = Plains(plain);
        let asked = Asked { what: &plain, text: text.as_bytes(), parameters: None, who: &who, target: &target, now_unix_ms: now_hour * HOURS };
        let verdict = compiled.judge(&compiled.context(&who, &target), &asked);
        let mut all: Vec<Seen<'_>> = plain
            .0
            .iter()
            .map(|p| Seen { class: p.class, verbs: &p.verbs, resources: p.resources.clone(), opens: vec![], pinned: false, sql: None })
            .collect();
        if all.is_empty() {
            all.push(Seen { class: ClassSet::EMPTY, verbs: &[], resources: vec![], opens: vec![], pinned: false, sql: None });
        }
        let world = World { who: &who, text, now_hour };
        let (effect, by) = oracle(&rules, &target, &all, &world);
        prop_assert_eq!((verdict.effect, verdict.rule.map(|at| at as usize)), (effect, by), "{:?}", verdict.why);
    }
}
