//! What the pages name is there: links within the repository, files, and the tests that stand for a promise.
//!
//! A file is named from the root, between backticks: `xtask/src/check.rs`; a test as `e2e/tests/hold.rs::an_approval_is_spent_once`.
//! Never here: whether a sentence is true.

use crate::Result;
use headgate_e2e::{during, place};
use std::path::{Path, PathBuf};

const FOLDERS: &[&str] = &["", "docs", "bench", "loadtest", "conformance"];

/// Where a protocol that is planned will stand. What has come is no exception any more.
const TO_COME: &[&str] = &[
    "protocols/mysql",
    "dataplane/gate/src/mysql/",
    "dataplane/mask/src/mysql/",
];

pub fn check() -> Result<String> {
    let root = place::repository();
    let (mut wrong, mut named, mut pages) = (Vec::new(), 0, 0);
    for page in self::pages(&root)? {
        pages += 1;
        let text = std::fs::read_to_string(&page).map_err(during(page.display()))?;
        let folder = page.parent().unwrap_or(&root);
        let of = page.strip_prefix(&root).unwrap_or(&page).display();
        for name in links(&text)
            .map(|link| (folder, link))
            .chain(paths(&text).map(|path| (&*root, path)))
        {
            named += 1;
            if let Err(why) = is_there(name.0, name.1) {
                wrong.push(format!("{of}: {why}"));
            }
        }
    }
    match (named, wrong.is_empty()) {
        (0, _) => Err("no page names anything".to_owned()),
        (_, true) => Ok(format!(
            "{pages} pages name {named} files and tests, and all are there"
        )),
        (_, false) => Err(wrong.join("\n")),
    }
}

fn pages(root: &Path) -> Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for folder in FOLDERS {
        let folder = root.join(folder);
        for entry in std::fs::read_dir(&folder).map_err(during(folder.display()))? {
            let path = entry.map_err(during(folder.display()))?.path();
            if path.extension().is_some_and(|ending| ending == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    Ok(pages)
}

/// Targets of links that stay in the repository, without the place on the page.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let link = rest.split(')').next()?;
        let path = link.split('#').next().unwrap_or(link);
        (!path.is_empty() && !link.contains("://") && !link.contains(' ')).then_some(path)
    })
}

/// What stands between backticks on a line and begins with a folder of the repository.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let folders = [
        "bench/",
        "conformance/",
        "controlplane/",
        "dataplane/",
        "docs/",
        "e2e/",
        "fuzz/",
        "loadtest/",
        "protocols/",
        "xtask/",
    ];
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(move |path| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "/_-.:".contains(c);
            path.chars().all(plain) && folders.iter().any(|folder| path.starts_with(folder))
        })
}

fn is_there(root: &Path, name: &str) -> Result<()> {
    let (path, test) = name
        .split_once("::")
        .map_or((name, None), |(path, test)| (path, Some(test)));
    let whole = root.join(path);
    if TO_COME.contains(&path) {
        return match whole.exists() {
            true => Err(format!("{path} has come")),
            false => Ok(()),
        };
    }
    if !whole.exists() {
        return Err(format!("{path} is not there"));
    }
    if let Some(test) = test {
        let text = std::fs::read_to_string(&whole).map_err(during(path))?;
        if !text.contains(&format!("fn {test}(")) {
            return Err(format!("{path} has no {test}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_leave_the_repository_and_code_that_is_no_path_are_passed_over() {
        let text = "see [a](docs/rules.md#x), [b](https://example.com/y), `protocols/*`, `cargo xtask check` and `e2e/tests/hold.rs::f`";
        assert_eq!(links(text).collect::<Vec<_>>(), ["docs/rules.md"]);
        assert_eq!(paths(text).collect::<Vec<_>>(), ["e2e/tests/hold.rs::f"]);
    }

    #[test]
    fn a_file_or_a_test_that_is_gone_is_found() {
        let root = place::repository();
        let own = "xtask/src/check/pages.rs";
        is_there(&root, own).unwrap();
        is_there(&root, &format!("{own}::a_file_or_a_test_that_is_gone_is_found")).unwrap();
        assert!(is_there(&root, "xtask/src/check/gone.rs").is_err());
        assert!(is_there(&root, &format!("{own}::gone")).is_err());
    }
}
