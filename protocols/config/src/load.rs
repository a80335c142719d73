//! Reading the file: TOML, then the model, then the paths, then the rules of [`crate::check`] that need no other file.

use crate::error::{ConfigErrors, ConfigProblem};
use crate::locate;
use crate::model::{Config, TlsFiles};
use crate::target::{self, ReadTarget};
use serde::Deserialize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// A configuration beyond this is a mistake.
const FILE_BYTES_MAX: u64 = 4 << 20;

impl Config {
    /// Reads and checks all that can be checked without opening the files that it names.
    pub fn load(path: impl AsRef<Path>) -> Result<Config, ConfigErrors> {
        let path = path.as_ref();
        let file = path.display().to_string();
        let wrong = |problem| ConfigErrors {
            file: file.clone(),
            problems: vec![problem],
        };
        let read = std::fs::metadata(path).and_then(|meta| {
            if meta.len() > FILE_BYTES_MAX {
                return Err(std::io::Error::other(format!(
                    "longer than {FILE_BYTES_MAX} bytes"
                )));
            }
            std::fs::read_to_string(path)
        });
        let source = read.map_err(|error| wrong(ConfigProblem::bare(format!("cannot be read: {error}"))))?;
        Config::parse(&source, path)
    }

    /// As [`Config::load`], from text; `path` names the file in errors, and its folder is what relative paths start from.
    pub fn parse(source: &str, path: &Path) -> Result<Config, ConfigErrors> {
        let file = path.display().to_string();
        let (mut config, mut problems) = match read(source) {
            Ok(read) => read,
            Err(error) => {
                return Err(ConfigErrors {
                    file,
                    problems: vec![problem_of(source, &error)],
                });
            }
        };
        config.source = source.to_owned();
        config.path = path.to_owned();
        config.join_paths(path.parent().unwrap_or(Path::new("")));
        problems.extend(config.check_without_files());
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigErrors { file, problems })
        }
    }

    fn join_paths(&mut self, folder: &Path) {
        let join = |path: &mut PathBuf| *path = folder.join(&*path);
        let join_tls = |tls: &mut Option<TlsFiles>| {
            if let Some(files) = tls {
                files.certificate = folder.join(&files.certificate);
                files.key = folder.join(&files.key);
            }
        };
        join(&mut self.appliance.data);
        join(&mut self.appliance.runtime);
        join(&mut self.appliance.rules);
        self.listeners.iter_mut().for_each(|l| join_tls(&mut l.tls));
        join_tls(&mut self.api.tls);
        self.targets
            .iter_mut()
            .filter_map(|t| t.ca.as_mut())
            .for_each(join);
        self.issuers
            .iter_mut()
            .filter_map(|i| i.ca.as_mut())
            .for_each(join);
        self.local.iter_mut().for_each(|local| join(&mut local.users));
    }
}

/// All but the targets as one document, then each target by its protocol, and what is wrong with those.
fn read(source: &str) -> Result<(Config, Vec<ConfigProblem>), toml::de::Error> {
    let root = DeTable::parse(source)?;
    let span = root.span();
    let (mut rest, mut targets) = (DeTable::new(), None);
    for (key, value) in root.into_inner() {
        if key.get_ref() == "target" {
            targets = Some(value);
        } else {
            rest.insert(key, value);
        }
    }
    let rest = toml::de::Deserializer::from(toml::Spanned::new(span, rest));
    let (mut config, mut problems) = (Config::deserialize(rest)?, Vec::new());
    let Some(targets) = targets else {
        return Ok((config, problems));
    };
    let wrong =
        |span: Range<usize>| locate::at(source, span.start, "targets are tables: [[target]]".to_owned());
    let span = targets.span();
    let DeValue::Array(list) = targets.into_inner() else {
        problems.push(wrong(span));
        return Ok((config, problems));
    };
    for (at, item) in list.into_iter().enumerate() {
        let span = item.span();
        let DeValue::Table(table) = item.into_inner() else {
            problems.push(wrong(span));
            continue;
        };
        match target::target(source, at, table, span)? {
            ReadTarget::Target(target) => config.targets.push(*target),
            ReadTarget::Wrong(problem) => problems.push(problem),
        }
    }
    Ok((config, problems))
}

fn problem_of(source: &str, error: &toml::de::Error) -> ConfigProblem {
    let message = error.message().trim().to_owned();
    let help = did_you_mean(&message);
    let mut problem = match error.span() {
        Some(span) => locate::at(source, span.start, message),
        None => ConfigProblem::bare(message),
    };
    problem.help = help;
    problem
}

/// serde says "unknown field `adress`, expected one of `address`, `tls`" (and the same of variants): take the nearest.
pub(crate) fn did_you_mean(message: &str) -> Option<String> {
    let rest = message
        .strip_prefix("unknown field ")
        .or_else(|| message.strip_prefix("unknown variant "))?;
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let written = quoted.next()?;
    let (distance, nearest) = quoted
        .map(|known| (strsim::damerau_levenshtein(written, known), known))
        .min()?;
    (distance <= 1 + written.chars().count() / 3).then(|| format!("did you mean `{nearest}`?"))
}
