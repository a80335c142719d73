//! What a test came to, directly and each way through Headgate, and which losses are known.

use super::world::Way;
use crate::Result;
use headgate_e2e::{during, place};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Skipped,
    Failed(String),
}

pub type Outcomes = BTreeMap<String, Outcome>;

/// The name of a suite's own ending: it is there only when the suite hung or died, and then it has failed.
pub const TO_THE_END: &str = "to the end";

/// Reads lines of `ok NAME`, `failed NAME: why`, `skipped NAME: why`; what else was said is not of interest.
pub fn read_lines(text: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in text.lines() {
        let Some((how, rest)) = line.split_once(' ') else {
            continue;
        };
        let (name, why) = rest.split_once(": ").unwrap_or((rest, ""));
        let outcome = match how {
            "ok" => Outcome::Passed,
            "skipped" => Outcome::Skipped,
            "failed" => Outcome::Failed(why.to_owned()),
            _ => continue,
        };
        outcomes.insert(name.trim_end_matches(':').to_owned(), outcome);
    }
    outcomes
}

/// The inverse of [`read_lines`], for whoever looks into a failure.
pub fn lines(outcomes: &Outcomes) -> String {
    let line = |(name, outcome): (&String, &Outcome)| match outcome {
        Outcome::Passed => format!("ok {name}\n"),
        Outcome::Skipped => format!("skipped {name}\n"),
        Outcome::Failed(why) => format!("failed {name}: {}\n", why.replace('\n', " | ")),
    };
    outcomes.iter().map(line).collect()
}

pub fn passed(outcomes: &Outcomes) -> usize {
    outcomes.values().filter(|o| **o == Outcome::Passed).count()
}

pub fn failed(outcomes: &Outcomes) -> Vec<String> {
    outcomes
        .iter()
        .filter(|(_, o)| matches!(o, Outcome::Failed(_)))
        .map(|(name, _)| name.clone())
        .collect()
}

/// Whether `through` is worse than `direct`. What fails directly is the suite's or the machine's own; what is skipped directly may
/// pass.
fn is_lost(direct: Option<&Outcome>, through: Option<&Outcome>) -> bool {
    match direct {
        Some(Outcome::Passed) => through != Some(&Outcome::Passed),
        Some(Outcome::Skipped) | None => matches!(through, Some(Outcome::Failed(_))),
        Some(Outcome::Failed(_)) => false,
    }
}

fn in_words(outcome: Option<&Outcome>) -> String {
    match outcome {
        None => "was not run".to_owned(),
        Some(Outcome::Passed) => "passes".to_owned(),
        Some(Outcome::Skipped) => "is skipped".to_owned(),
        Some(Outcome::Failed(why)) => format!("fails: {why}"),
    }
}

/// A part, each way that it was run.
pub struct Compared {
    pub runs: Vec<(Way, Outcomes)>,
}

/// A test that a way through Headgate lost.
pub struct Loss {
    pub way: Way,
    pub test: String,
    pub how: String,
}

impl Compared {
    pub fn of(&self, way: Way) -> Option<&Outcomes> {
        self.runs
            .iter()
            .find(|(w, _)| *w == way)
            .map(|(_, outcomes)| outcomes)
    }

    /// Without a direct run nothing is compared: what failed is listed.
    pub fn losses(&self) -> Vec<Loss> {
        let direct = self.of(Way::Direct);
        let mut losses = Vec::new();
        for (way, through) in &self.runs {
            let Some(direct) = direct.filter(|_| *way != Way::Direct) else {
                if direct.is_none() || self.runs.len() == 1 {
                    let bad = failed(through).into_iter();
                    losses.extend(bad.map(|test| Loss {
                        way: *way,
                        how: in_words(through.get(&test)),
                        test,
                    }));
                }
                continue;
            };
            let names: BTreeSet<&String> = direct.keys().chain(through.keys()).collect();
            for name in names {
                let (a, b) = (direct.get(name), through.get(name));
                if is_lost(a, b) {
                    let how = format!("{}; directly it {}", in_words(b), in_words(a));
                    losses.push(Loss {
                        way: *way,
                        test: name.clone(),
                        how,
                    });
                }
            }
        }
        losses
    }

    /// Failures without Headgate: the suite's or the machine's own.
    pub fn failed_directly(&self) -> Vec<String> {
        self.of(Way::Direct).map(failed).unwrap_or_default()
    }
}

/// Whose it is to mend what an entry of the table lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mends {
    Gate,
    Judging,
    Masking,
    /// It comes with any gateway in between, or with a suite that wants what a gateway exists to refuse.
    Nobody,
}

impl Mends {
    fn read(word: &str) -> Option<Mends> {
        [Mends::Gate, Mends::Judging, Mends::Masking, Mends::Nobody]
            .into_iter()
            .find(|m| m.to_string() == word)
    }
}

impl fmt::Display for Mends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mends::Gate => "gate",
            Mends::Judging => "judging",
            Mends::Masking => "masking",
            Mends::Nobody => "nobody",
        })
    }
}

/// `conformance/differences.toml`: what is lost through Headgate, why, and who mends it.
pub struct Known(Vec<Difference>);

pub struct Difference {
    pub part: String,
    ways: Vec<Way>,
    /// Names, in which `*` stands for anything.
    tests: Vec<String>,
    pub why: String,
    pub mends: Mends,
    /// A race: lost in some runs only, so that it is not stale when it is not lost.
    sometimes: bool,
}

impl Known {
    pub fn read() -> Result<Known> {
        let path = place::repository().join("conformance/differences.toml");
        let text = std::fs::read_to_string(&path).map_err(during(path.display()))?;
        Known::parse(&text, &path)
    }

    fn parse(text: &str, path: &Path) -> Result<Known> {
        let table: toml::Table = text.parse().map_err(during(path.display()))?;
        let entries = table
            .get("difference")
            .and_then(toml::Value::as_array)
            .into_iter()
            .flatten();
        let read = |entry| difference(entry).map_err(during(format!("{}: a [[difference]]", path.display())));
        Ok(Known(entries.map(read).collect::<Result<_>>()?))
    }

    pub fn entry(&self, part: &str, way: Way, test: &str) -> Option<&Difference> {
        self.0.iter().find(|d| {
            d.part == part && d.ways.contains(&way) && d.tests.iter().any(|pattern| matches(pattern, test))
        })
    }

    /// What the table says of parts and ways that were run, and that was not so.
    pub fn stale(&self, part: &str, compared: &Compared) -> Vec<String> {
        let losses = compared.losses();
        let mut stale = Vec::new();
        if compared.of(Way::Direct).is_none() {
            return stale;
        }
        for d in self.0.iter().filter(|d| d.part == part && !d.sometimes) {
            for way in d.ways.iter().filter(|way| compared.of(**way).is_some()) {
                let lost =
                    |pattern: &String| losses.iter().any(|l| l.way == *way && matches(pattern, &l.test));
                stale.extend(
                    d.tests
                        .iter()
                        .filter(|pattern| !lost(pattern))
                        .map(|pattern| format!("{part}, {}: {pattern}", way.name())),
                );
            }
        }
        stale
    }
}

fn difference(entry: &toml::Value) -> Result<Difference> {
    let table = entry.as_table().ok_or("is a table")?;
    if let Some(key) = table
        .keys()
        .find(|key| !["part", "ways", "tests", "why", "mends", "sometimes"].contains(&key.as_str()))
    {
        return Err(format!("has no key `{key}`"));
    }
    let text = |key: &str| {
        table
            .get(key)
            .and_then(toml::Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| format!("has a string `{key}`"))
    };
    let list = |key: &str| -> Result<Vec<String>> {
        let wrong = || format!("has a list of strings `{key}`");
        let items = table.get(key).and_then(toml::Value::as_array).ok_or_else(wrong)?;
        items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect()
    };
    let ways = list("ways")?
        .iter()
        .map(|name| Way::through(name).ok_or_else(|| format!("has no way `{name}`")))
        .collect::<Result<_>>()?;
    let mends = Mends::read(&text("mends")?).ok_or("is mended by gate, judging, masking or nobody")?;
    let sometimes = table
        .get("sometimes")
        .is_some_and(|value| value.as_bool() == Some(true));
    Ok(Difference {
        part: text("part")?,
        ways,
        tests: list("tests")?,
        why: text("why")?,
        mends,
        sometimes,
    })
}

/// `*` stands for any text, also none.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else {
        return rest.is_empty();
    };
    for piece in pieces {
        let Some((_, after)) = rest.split_once(piece) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r#"
        [[difference]]
        part = "suite"
        ways = ["ordinary"]
        tests = ["a", "group/*"]
        why = "because"
        mends = "judging"
    "#;

    fn known(text: &str) -> Result<Known> {
        Known::parse(text, Path::new("differences.toml"))
    }

    fn compared(direct: &str, ordinary: &str) -> Compared {
        Compared {
            runs: vec![
                (Way::Direct, read_lines(direct)),
                (Way::Ordinary, read_lines(ordinary)),
            ],
        }
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, so) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*a", "a", false),
            ("a*c*e", "abde", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), so, "{pattern} {text}");
        }
    }

    #[test]
    fn lost_is_what_passed_directly_and_what_fails_only_through() {
        let both = compared(
            "ok a\nok b\nfailed c: x\nskipped d\nok e\nskipped g\n",
            "ok a\nfailed b: y\nok c\nok d\nfailed f: z\nfailed g: w\n",
        );
        let lost: Vec<String> = both.losses().into_iter().map(|l| l.test).collect();
        assert_eq!(lost, ["b", "e", "f", "g"]);
        assert_eq!(both.failed_directly(), ["c"]);
    }

    #[test]
    fn a_loss_is_known_by_part_way_and_name() {
        let known = known(TABLE).expect("a table");
        assert!(
            known
                .entry("suite", Way::Ordinary, "group/x")
                .is_some_and(|d| d.mends == Mends::Judging && d.why == "because")
        );
        assert!(known.entry("suite", Way::Masked, "group/x").is_none());
        assert!(known.entry("other", Way::Ordinary, "group/x").is_none());
        assert!(known.entry("suite", Way::Ordinary, "b").is_none());
    }

    #[test]
    fn what_is_listed_and_not_lost_is_stale() {
        let known = known(TABLE).expect("a table");
        assert_eq!(
            known.stale(
                "suite",
                &compared("ok a\nok group/x\n", "failed a: no\nok group/x\n")
            ),
            ["suite, ordinary: group/*"]
        );
        assert!(
            known
                .stale("suite", &compared("ok a\nok group/x\n", "failed a: no\n"))
                .is_empty()
        );
        // A way that was not run says nothing.
        let direct = Compared {
            runs: vec![(Way::Direct, read_lines("ok a\n"))],
        };
        assert!(known.stale("suite", &direct).is_empty());
    }

    #[test]
    fn the_table_is_read_strictly() {
        for (from, to) in [
            ("judging", "somebody"),
            ("ordinary", "direct"),
            ("why", "wy"),
            ("tests", "test"),
            ("\"because\"", "1"),
        ] {
            assert!(known(&TABLE.replace(from, to)).is_err(), "{from} → {to}");
        }
    }
}
