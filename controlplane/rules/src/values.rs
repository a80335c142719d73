//! Small values in words: durations, times of day, lists.

use crate::problem::{Problems, unknown};
use crate::text::{OneOrMany, TargetText, WhoText, Words};
use headgate_plane::{Protocol, RuleTarget, RuleWho};
use toml::Spanned;

/// `90s`, `15m`, `2h`, `1d`.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a duration such as 90s, 15m or 2h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number = text.strip_suffix(unit).ok_or_else(wrong)?;
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let factor: u64 = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return Err(wrong()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        .ok_or_else(wrong)
}

/// `08:00` to minutes since midnight; `24:00` is the end of the day.
pub(crate) fn minute_of_day(text: &str) -> Result<u16, String> {
    let wrong = || format!("`{text}` is not a time such as 08:00");
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let part = |s: &str| {
        (s.len() == 2 && s.bytes().all(|b| b.is_ascii_digit()))
            .then(|| s.parse::<u16>().ok())
            .flatten()
    };
    let (hour, minute) = (part(hour).ok_or_else(wrong)?, part(minute).ok_or_else(wrong)?);
    if minute > 59 || hour * 60 + minute > 1440 {
        return Err(wrong());
    }
    Ok(hour * 60 + minute)
}

/// A list that is there but empty would read as "nobody" and mean "everybody": it is refused.
pub(crate) fn words(list: &Words, what: &str, rule: &str, problems: &mut Problems<'_>) -> Vec<String> {
    let Some(list) = list else { return Vec::new() };
    if list.as_ref().is_empty() {
        problems.add(
            rule,
            list.span(),
            format!("{what} is an empty list: name something, or leave it out"),
        );
    }
    for word in list.as_ref() {
        if word.as_ref().trim().is_empty() {
            problems.add(rule, word.span(), format!("{what} has an empty name"));
        }
    }
    list.as_ref().iter().map(|w| w.as_ref().clone()).collect()
}

/// Each word of a list through a check of its own.
pub(crate) fn each<T>(
    list: &Words,
    rule: &str,
    problems: &mut Problems<'_>,
    check: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    let mut found = Vec::new();
    for word in list.iter().flat_map(|l| l.as_ref().iter()) {
        match check(word.as_ref()) {
            Ok(value) => found.push(value),
            Err(message) => problems.add(rule, word.span(), message),
        }
    }
    found
}

pub(crate) fn who(text: &WhoText, rule: &str, problems: &mut Problems<'_>) -> RuleWho {
    RuleWho {
        principals: words(&text.principals, "principals", rule, problems),
        groups: words(&text.groups, "groups", rule, problems),
        actors: words(&text.actors, "actors", rule, problems),
        chain: words(&text.chain, "chain", rule, problems),
        issuers: words(&text.issuers, "issuers", rule, problems),
        addresses: words(&text.addresses, "addresses", rule, problems),
        applications: words(&text.applications, "applications", rule, problems),
    }
}

pub(crate) fn target(text: &TargetText, rule: &str, problems: &mut Problems<'_>) -> RuleTarget {
    let mut labels = Vec::new();
    for (key, values) in text.labels.iter().flatten() {
        labels.extend(
            one_or_many(values, "labels", rule, problems)
                .into_iter()
                .map(|value| (key.clone(), value)),
        );
    }
    if let Some(map) = &text.labels
        && map.is_empty()
    {
        problems.add(
            rule,
            0..0,
            "target.labels is empty: name something, or leave it out",
        );
    }
    RuleTarget {
        names: words(&text.names, "target.names", rule, problems),
        environments: text
            .environment
            .as_ref()
            .map(|e| one_or_many(e, "environment", rule, problems))
            .unwrap_or_default(),
        labels,
        protocols: {
            words(&text.protocols, "target.protocols", rule, problems);
            each(&text.protocols, rule, problems, protocol)
        },
    }
}

fn protocol(word: &str) -> Result<Protocol, String> {
    let names = Protocol::ALL.map(Protocol::name);
    Protocol::of_name(word).ok_or_else(|| unknown("protocol", word, &names))
}

/// Those that are known; the others are told by [`target`].
pub(crate) fn protocols(text: &TargetText) -> Vec<Protocol> {
    let words = text.protocols.iter().flat_map(|list| list.as_ref().iter());
    words
        .filter_map(|word| Protocol::of_name(word.as_ref()))
        .collect()
}

fn one_or_many(
    values: &Spanned<OneOrMany>,
    what: &str,
    rule: &str,
    problems: &mut Problems<'_>,
) -> Vec<String> {
    let list = match values.as_ref() {
        OneOrMany::One(one) => vec![one.clone()],
        OneOrMany::Many(many) => many.clone(),
    };
    if list.is_empty() || list.iter().any(String::is_empty) {
        problems.add(
            rule,
            values.span(),
            format!("{what} is empty: name something, or leave it out"),
        );
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_times_are_read_strictly() {
        assert_eq!(duration_ms("90s"), Ok(90_000));
        assert_eq!(duration_ms("15m"), Ok(900_000));
        assert_eq!(duration_ms("1d"), Ok(86_400_000));
        for bad in [
            "",
            "m",
            "15",
            "-1m",
            "1.5h",
            "15 m",
            "15µ",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(duration_ms(bad).is_err(), "{bad}");
        }
        assert_eq!(minute_of_day("08:30"), Ok(510));
        assert_eq!(minute_of_day("24:00"), Ok(1440));
        for bad in ["", "8:00", "08:60", "24:01", "0800", "+8:00", "08:0a", "99:99"] {
            assert!(minute_of_day(bad).is_err(), "{bad}");
        }
    }
}
