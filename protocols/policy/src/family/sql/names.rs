//! Sets of names as rules spell them: `schema.name`, `schema.*`, `*`; for functions also a bare name of `pg_catalog`.
//!
//! Names are compared as the catalog stores them: no case folding, no quotes. The first dot ends the schema.

use super::{ResolvedFunction, ResolvedRelation, UNRESOLVED};
use std::collections::{HashMap, HashSet};

const PG_CATALOG: &str = "pg_catalog";

#[derive(Debug, Default)]
pub(crate) struct Names {
    all: bool,
    schemas: HashSet<Box<str>>,
    exact: HashMap<Box<str>, HashSet<Box<str>>>,
}

impl Names {
    /// `None` for an empty list, which does not restrict.
    pub(crate) fn relations(list: &[String]) -> Result<Option<Names>, String> {
        Names::parse(list, |pattern| {
            Err(format!(
                "relation `{pattern}` has no schema: write `public.{pattern}`"
            ))
        })
    }

    pub(crate) fn functions(list: &[String]) -> Result<Option<Names>, String> {
        Names::parse(list, |bare| Ok((PG_CATALOG.to_owned(), bare.to_owned())))
    }

    fn parse(
        list: &[String],
        bare: impl Fn(&str) -> Result<(String, String), String>,
    ) -> Result<Option<Names>, String> {
        if list.is_empty() {
            return Ok(None);
        }
        let mut names = Names::default();
        for pattern in list {
            if pattern == "*" {
                names.all = true;
                continue;
            }
            let (schema, name) = match pattern.split_once('.') {
                Some((schema, name)) => (schema.to_owned(), name.to_owned()),
                None if pattern.is_empty() => return Err("an empty name".to_owned()),
                None => bare(pattern)?,
            };
            if schema.is_empty() || name.is_empty() || schema == UNRESOLVED {
                return Err(format!("`{pattern}` is not `schema.name`, `schema.*` or `*`"));
            }
            if schema.contains('*') || (name != "*" && name.contains('*')) {
                return Err(format!(
                    "`{pattern}`: `*` stands for a whole name only, as in `schema.*` or `*`"
                ));
            }
            if name == "*" {
                names.schemas.insert(schema.into());
            } else {
                names.exact.entry(schema.into()).or_default().insert(name.into());
            }
        }
        Ok(Some(names))
    }

    fn contains(&self, schema: &str, name: &str) -> bool {
        self.all
            || self.schemas.contains(schema)
            || self.exact.get(schema).is_some_and(|names| names.contains(name))
    }

    /// For allow. A name without a schema is covered by `*` alone.
    pub(crate) fn covers_relation(&self, relation: &ResolvedRelation) -> bool {
        self.all || (relation.schema != UNRESOLVED && self.contains(&relation.schema, &relation.name))
    }

    /// For deny and hold. A name that the catalog does not know may be a view of anything: it matches.
    pub(crate) fn meets_relation(&self, relation: &ResolvedRelation) -> bool {
        relation.schema == UNRESOLVED || self.contains(&relation.schema, &relation.name)
    }

    pub(crate) fn covers_function(&self, function: &ResolvedFunction) -> bool {
        match function.schema.as_deref() {
            Some(UNRESOLVED) => self.all,
            schema => self.contains(schema.unwrap_or(PG_CATALOG), &function.name),
        }
    }

    /// For deny and hold. A function whose schema is not known matches by its name in any schema.
    pub(crate) fn meets_function(&self, function: &ResolvedFunction) -> bool {
        match function.schema.as_deref() {
            Some(UNRESOLVED) => {
                self.all
                    || !self.schemas.is_empty()
                    || self
                        .exact
                        .values()
                        .any(|names| names.contains(function.name.as_str()))
            }
            schema => self.contains(schema.unwrap_or(PG_CATALOG), &function.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(schema: &str, name: &str) -> ResolvedRelation {
        ResolvedRelation {
            schema: schema.into(),
            name: name.into(),
            read: true,
            written: false,
        }
    }

    fn function(schema: Option<&str>, name: &str) -> ResolvedFunction {
        ResolvedFunction {
            schema: schema.map(Into::into),
            name: name.into(),
        }
    }

    fn relations(list: &[&str]) -> Result<Option<Names>, String> {
        Names::relations(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    fn functions(list: &[&str]) -> Names {
        Names::functions(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
            .expect("valid")
            .expect("not empty")
    }

    #[test]
    fn a_pattern_means_one_name_one_schema_or_all() {
        let names = relations(&["public.orders", "shop.*", "public.a.b"])
            .expect("valid")
            .expect("not empty");
        assert!(names.covers_relation(&relation("public", "orders")));
        assert!(
            !names.covers_relation(&relation("public", "Orders")),
            "no case folding"
        );
        assert!(!names.covers_relation(&relation("public", "customers")));
        assert!(names.covers_relation(&relation("shop", "anything")));
        assert!(
            names.covers_relation(&relation("public", "a.b")),
            "the first dot ends the schema"
        );
        assert!(relations(&[]).expect("valid").is_none());
    }

    #[test]
    fn a_pattern_that_cannot_be_meant_is_refused() {
        for bad in [
            "orders",
            "",
            ".x",
            "x.",
            "*.orders",
            "public.ord*",
            "?.orders",
            "**",
        ] {
            assert!(relations(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_that_is_not_resolved_is_covered_by_the_star_alone_and_meets_every_restriction() {
        let unknown = relation(UNRESOLVED, "orders");
        let some = relations(&["public.orders", "public.*"])
            .expect("valid")
            .expect("not empty");
        let all = relations(&["*"]).expect("valid").expect("not empty");
        assert!(!some.covers_relation(&unknown) && all.covers_relation(&unknown));
        assert!(some.meets_relation(&unknown) && all.meets_relation(&unknown));
        let f = functions(&["pg_sleep"]);
        assert!(f.meets_function(&function(Some(UNRESOLVED), "pg_sleep")));
        assert!(!f.meets_function(&function(Some(UNRESOLVED), "lower")));
        assert!(!f.covers_function(&function(Some(UNRESOLVED), "pg_sleep")));
    }

    #[test]
    fn a_bare_function_is_one_of_pg_catalog() {
        let f = functions(&["lower", "pg_catalog.upper", "app.*"]);
        assert!(f.covers_function(&function(None, "lower")));
        assert!(f.covers_function(&function(None, "upper")));
        assert!(!f.covers_function(&function(Some("public"), "lower")));
        assert!(f.covers_function(&function(Some("app"), "anything")));
    }
}
