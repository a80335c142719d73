//! `rules.toml` → snapshot.

use crate::known::{self, EFFECTS, WAIT_MS_DEFAULT, WAIT_MS_MAX, named};
use crate::mask::mask;
use crate::problem::{Problem, Problems};
use crate::statement::statement;
use crate::text::{FileText, ReviewersText, RuleText, TimeText, WhoText};
use crate::values::{duration_ms, each, minute_of_day, target, who, words};
use headgate_plane::{Effect, Epoch, OnHold, Reviewers, Rule, RuleWho, Snapshot, TimeWindow};
use headgate_policy::Compiled;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;

/// A longer text is refused before it is parsed.
pub const TEXT_BYTES_MAX: usize = 4 << 20;
/// Rules and masks together.
pub const RULES_MAX: usize = 10_000;

const NAME_CHARS_MAX: usize = 200;

/// Every problem that can be found is told; of errors in the TOML itself (syntax, unknown keys, wrong kinds) the first.
pub fn compile(text: &str, epoch: Epoch) -> Result<Snapshot, Vec<Problem>> {
    let mut problems = Problems::new(text);
    if text.len() > TEXT_BYTES_MAX {
        problems.add(
            "",
            0..0,
            format!("the text is longer than {TEXT_BYTES_MAX} bytes"),
        );
        return Err(problems.list);
    }
    let file: FileText = match toml::from_str(text) {
        Ok(file) => file,
        Err(error) => {
            problems.add_toml(&error);
            return Err(problems.list);
        }
    };
    if file.rule.len() + file.mask.len() > RULES_MAX {
        problems.add(
            "",
            0..0,
            format!("there are more than {RULES_MAX} rules and masks"),
        );
        return Err(problems.list);
    }
    names(&file, &mut problems);
    let rules: Vec<Rule> = file.rule.iter().map(|r| rule(r, &mut problems)).collect();
    let masks = file.mask.iter().map(|m| mask(m, &mut problems)).collect();
    if !problems.list.is_empty() {
        return Err(problems.into_sorted());
    }
    let snapshot = Arc::new(Snapshot { epoch, rules, masks });
    if let Err(found) = Compiled::new(snapshot.clone()) {
        let places = places(&file);
        for problem in found {
            let span = if problem.reason.starts_with("when") {
                places.get(problem.rule.as_str()).map(|p| p.1.clone())
            } else {
                places.get(problem.rule.as_str()).map(|p| p.0.clone())
            };
            problems.add(&problem.rule, span.unwrap_or(0..0), problem.reason);
        }
        return Err(problems.into_sorted());
    }
    Ok(Arc::unwrap_or_clone(snapshot))
}

/// Where each rule's name and `when` stand.
fn places(file: &FileText) -> HashMap<&str, (Range<usize>, Range<usize>)> {
    let rules = file.rule.iter().map(|r| {
        let when = r.when.as_ref().map_or_else(|| r.name.span(), Spanned::span);
        (r.name.as_ref().as_str(), (r.name.span(), when))
    });
    let masks = file
        .mask
        .iter()
        .map(|m| (m.name.as_ref().as_str(), (m.name.span(), m.name.span())));
    rules.chain(masks).collect()
}

fn names(file: &FileText, problems: &mut Problems<'_>) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for name in file
        .rule
        .iter()
        .map(|r| &r.name)
        .chain(file.mask.iter().map(|m| &m.name))
    {
        let text = name.as_ref().as_str();
        if text.trim().is_empty()
            || text.chars().count() > NAME_CHARS_MAX
            || text.chars().any(char::is_control)
        {
            problems.add(
                text,
                name.span(),
                format!("a name has 1 to {NAME_CHARS_MAX} characters, on one line"),
            );
        }
        if seen.insert(text, name.span().start).is_some() {
            problems.add(text, name.span(), "another rule or mask has this name");
        }
    }
}

fn rule(text: &RuleText, problems: &mut Problems<'_>) -> Rule {
    let name = text.name.as_ref().clone();
    let effect = match named("effect", text.effect.as_ref(), EFFECTS) {
        Ok(effect) => effect,
        Err(message) => {
            problems.add(&name, text.effect.span(), message);
            Effect::Deny
        }
    };
    let caller = text
        .who
        .as_ref()
        .map(|w| who(w.as_ref(), &name, problems))
        .unwrap_or_default();
    if effect == Effect::Allow {
        chain_only_narrows(&name, &caller, text.who.as_ref(), problems);
    }
    if let Some(when) = &text.when
        && when.as_ref().trim() == "false"
    {
        problems.add(&name, when.span(), "never matches: `when` is false");
    }
    let (reviewers, wait_ms) = hold(text, effect, &name, problems);
    Rule {
        who: caller,
        target: text
            .target
            .as_ref()
            .map(|t| target(t, &name, problems))
            .unwrap_or_default(),
        statement: statement(text, effect, &name, problems),
        when: text.when.as_ref().map(|w| w.as_ref().clone()),
        time: text.time.as_ref().and_then(|t| time(t, &name, problems)),
        effect,
        message: text.message.as_ref().map(|m| m.as_ref().clone()),
        reviewers,
        wait_ms,
        data_open: data(text, effect, &name, problems),
        on_hold: on_hold(text, effect, &name, problems),
        name,
    }
}

/// Only the principal and the outermost actor open a door.
pub(crate) fn chain_only_narrows(
    name: &str,
    caller: &RuleWho,
    text: Option<&Spanned<WhoText>>,
    problems: &mut Problems<'_>,
) {
    if !caller.chain.is_empty()
        && caller.principals.is_empty()
        && caller.groups.is_empty()
        && caller.actors.is_empty()
    {
        let span = text
            .and_then(|w| w.as_ref().chain.as_ref().map(Spanned::span))
            .unwrap_or(0..0);
        problems.add(
            name,
            span,
            "chain can only narrow what opens: name principals, groups or actors as well",
        );
    }
}

/// `data`: for holds, and only "open" says something.
fn data(text: &RuleText, effect: Effect, name: &str, problems: &mut Problems<'_>) -> bool {
    let Some(data) = &text.data else { return false };
    if effect != Effect::Hold {
        problems.add(name, data.span(), "data is for rules with effect = \"hold\"");
    } else if data.as_ref() != "open" {
        problems.add(
            name,
            data.span(),
            "data can be \"open\" only: then a COPY … FROM STDIN goes on after approval, although nobody saw its data",
        );
    }
    effect == Effect::Hold
}

/// `on_hold`: for holds; `wait` when left out.
fn on_hold(text: &RuleText, effect: Effect, name: &str, problems: &mut Problems<'_>) -> OnHold {
    let Some(word) = &text.on_hold else {
        return OnHold::Wait;
    };
    if effect != Effect::Hold {
        problems.add(name, word.span(), "on_hold is for rules with effect = \"hold\"");
        return OnHold::Wait;
    }
    named("on_hold", word.as_ref(), known::ON_HOLD).unwrap_or_else(|message| {
        problems.add(name, word.span(), message);
        OnHold::Wait
    })
}

fn time(text: &Spanned<TimeText>, name: &str, problems: &mut Problems<'_>) -> Option<TimeWindow> {
    let inner = text.as_ref();
    words(&inner.days, "days", name, problems);
    let days = each(&inner.days, name, problems, |word| {
        named("day", word, known::DAYS)
    });
    let mut minute = |value: &Option<Spanned<String>>, default: u16| match value {
        None => default,
        Some(value) => minute_of_day(value.as_ref()).unwrap_or_else(|message| {
            problems.add(name, value.span(), message);
            default
        }),
    };
    let (from_minute, to_minute) = (minute(&inner.from, 0), minute(&inner.to, 1440));
    if from_minute == to_minute || from_minute == 1440 {
        problems.add(
            name,
            text.span(),
            "the window is never open: `from` and `to` are the same",
        );
    }
    if inner.days.is_none() && inner.from.is_none() && inner.to.is_none() {
        problems.add(name, text.span(), "time is empty: give days, from or to");
    }
    Some(TimeWindow {
        days,
        from_minute,
        to_minute,
    })
}

/// `reviewers` and `wait`: needed for hold, refused elsewhere.
fn hold(
    text: &RuleText,
    effect: Effect,
    name: &str,
    problems: &mut Problems<'_>,
) -> (Option<Reviewers>, u64) {
    if effect != Effect::Hold {
        if let Some(reviewers) = &text.reviewers {
            problems.add(
                name,
                reviewers.span(),
                "reviewers are for rules with effect = \"hold\"",
            );
        }
        if let Some(wait) = &text.wait {
            problems.add(name, wait.span(), "wait is for rules with effect = \"hold\"");
        }
        return (None, WAIT_MS_DEFAULT);
    }
    let reviewers = text.reviewers.as_ref().map(|r| reviewers(r, name, problems));
    if reviewers.is_none() {
        problems.add(
            name,
            text.effect.span(),
            "a hold needs reviewers, as in reviewers = { groups = [\"dba\"] }",
        );
    }
    let Some(wait) = &text.wait else {
        return (reviewers, WAIT_MS_DEFAULT);
    };
    let wait_ms = match duration_ms(wait.as_ref()) {
        Ok(0) => {
            problems.add(
                name,
                wait.span(),
                "a wait of nothing denies at once: say effect = \"deny\"",
            );
            WAIT_MS_DEFAULT
        }
        Ok(ms) if ms > WAIT_MS_MAX => {
            problems.add(name, wait.span(), "a statement waits for 24h at most");
            WAIT_MS_DEFAULT
        }
        Ok(ms) => ms,
        Err(message) => {
            problems.add(name, wait.span(), message);
            WAIT_MS_DEFAULT
        }
    };
    (reviewers, wait_ms)
}

fn reviewers(text: &Spanned<ReviewersText>, name: &str, problems: &mut Problems<'_>) -> Reviewers {
    let inner = text.as_ref();
    let reviewers = Reviewers {
        principals: words(&inner.principals, "reviewers.principals", name, problems),
        groups: words(&inner.groups, "reviewers.groups", name, problems),
        quorum: inner.quorum.as_ref().map_or(1, |q| *q.as_ref()),
    };
    let place = inner.quorum.as_ref().map_or_else(|| text.span(), Spanned::span);
    if reviewers.principals.is_empty() && reviewers.groups.is_empty() {
        problems.add(
            name,
            text.span(),
            "reviewers names nobody: give groups or principals",
        );
    }
    if reviewers.quorum == 0 {
        problems.add(
            name,
            place.clone(),
            "a quorum of 0 approves by itself: say effect = \"allow\"",
        );
    }
    let named = u32::try_from(reviewers.principals.len()).unwrap_or(u32::MAX);
    if reviewers.groups.is_empty() && named > 0 && reviewers.quorum > named {
        problems.add(
            name,
            place,
            format!(
                "a quorum of {} cannot be met by {named} named reviewers",
                reviewers.quorum
            ),
        );
    }
    reviewers
}
