//! Finds the spools of the directory, and keeps their ends.

use headgate_spool::Consumer;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub struct Spool {
    pub name: String,
    pub path: PathBuf,
    pub consumer: Consumer,
    /// Where the next chunk's range begins: everything before is in the database.
    pub recorded: u64,
    /// Does not keep its own rules; nothing more is read from it.
    pub broken: bool,
    /// The sessions of a producer that is gone were ended already.
    pub abandoned: bool,
}

impl Spool {
    pub fn generation(&self) -> u128 {
        self.consumer.generation().0
    }

    /// Whether so much of the ring cannot be used by its producer that it may soon have to wait: what is published and not
    /// given back, read or not.
    pub fn is_pressed(&self) -> bool {
        self.consumer.held_bytes() > self.consumer.capacity() / crate::run::PRESSED
    }

    /// Whether as much was read and not given back: of a small ring, the chunk in the making may be the larger part.
    pub fn holds_much(&self) -> bool {
        let held = self.consumer.read_position().saturating_sub(self.recorded);
        held > (self.consumer.capacity() / crate::run::PRESSED) as u64
    }
}

/// What a look into the directory found.
#[derive(Default)]
pub struct Found {
    pub new: Vec<(String, PathBuf, Consumer)>,
    /// Names of spools whose file was replaced or removed, and that are drained.
    pub gone: Vec<String>,
}

pub fn look(dir: &Path, known: &BTreeMap<String, Spool>, complained: &mut bool) -> Found {
    let mut found = Found::default();
    for (name, spool) in known {
        // A replaced file may still hold records of the old producer: they are read first.
        if !spool.consumer.is_file_at(&spool.path) && (spool.broken || !spool.consumer.has_more()) {
            found.gone.push(name.clone());
        }
    }
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            if !std::mem::replace(complained, true) {
                tracing::warn!(%error, dir = %dir.display(), "recorder: the spools' directory cannot be read");
            }
            return found;
        }
    };
    *complained = false;
    for entry in entries.flatten() {
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        if !name.starts_with("spool-") || (known.contains_key(&name) && !found.gone.contains(&name)) {
            continue;
        }
        let path = entry.path();
        match Consumer::open(&path) {
            Ok(consumer) => found.new.push((name, path, consumer)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, spool = name, "recorder: the spool cannot be opened"),
        }
    }
    found
}
