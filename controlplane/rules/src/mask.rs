//! `[[mask]]` → mask rule.

use crate::compile::chain_only_narrows;
use crate::known::{DETECTORS, METHODS, named};
use crate::problem::{Problems, unknown};
use crate::text::MaskText;
use crate::values::{each, target, who, words};
use headgate_plane::{MaskMethod, MaskRule, RuleWho};

pub(crate) fn mask(text: &MaskText, problems: &mut Problems<'_>) -> MaskRule {
    let name = text.name.as_ref().clone();
    let own = text.sql.as_ref().map_or(&None, |sql| &sql.columns);
    if let (Some(_), Some(older)) = (own, &text.columns) {
        problems.add(
            &name,
            older.span(),
            "sql.columns and columns are the same field: give it once",
        );
    }
    let of_sql = if own.is_some() { own } else { &text.columns };
    each(of_sql, &name, problems, |word| {
        if word.split('.').count() >= 3 && !word.split('.').any(str::is_empty) {
            Ok(())
        } else {
            Err(format!("column `{word}` is not `schema.table.column`"))
        }
    });
    each(&text.detect, &name, problems, |word| {
        if DETECTORS.contains(&word) {
            Ok(())
        } else {
            Err(unknown("detector", word, DETECTORS))
        }
    });
    let columns = words(of_sql, "columns", &name, problems);
    let detect = words(&text.detect, "detect", &name, problems);
    if of_sql.is_none() && text.detect.is_none() {
        problems.add(
            &name,
            text.name.span(),
            "the mask covers nothing: give columns or detect",
        );
    }
    let method = match &text.method {
        None => MaskMethod::default(),
        Some(method) => named("method", method.as_ref(), METHODS).unwrap_or_else(|message| {
            problems.add(&name, method.span(), message);
            MaskMethod::default()
        }),
    };
    let unless = text.unless.as_ref().map(|u| {
        let unless = who(u.as_ref(), &name, problems);
        if unless == RuleWho::default() {
            problems.add(&name, u.span(), "unless names nobody, which would be everybody");
        }
        chain_only_narrows(&name, &unless, Some(u), problems);
        unless
    });
    MaskRule {
        who: text
            .who
            .as_ref()
            .map(|w| who(w.as_ref(), &name, problems))
            .unwrap_or_default(),
        target: text
            .target
            .as_ref()
            .map(|t| target(t, &name, problems))
            .unwrap_or_default(),
        columns,
        detect,
        method,
        unless,
        name,
    }
}
