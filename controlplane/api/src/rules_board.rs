//! The rules in force, and the file that they come from.
//!
//! Invariants: what is in force compiled; a file that does not compile changes nothing but the list of problems; the
//! epoch grows with every change that is applied, is in the store before anybody works by it, and stays the same when a
//! restart finds the same text (a held statement is bound to its epoch).
//! Bounds: the text is at most `headgate_rules::TEXT_BYTES_MAX`; [`EPOCHS_KEPT`] earlier texts are kept.

use crate::control::now_unix_ms;
use headgate_plane::{Epoch, Snapshot};
use headgate_policy::Compiled;
use headgate_rules::Problem;
use headgate_store::{Batch, Store, StoreError, StoreJson, Table, read_json, write_json};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tokio::sync::watch;

const EPOCHS_KEPT: u64 = 100;

/// What people read: `headgate rules status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RulesStatus {
    /// 0: none were ever good, everything is denied.
    pub epoch: u64,
    pub applied_unix_ms: u64,
    pub rules: usize,
    pub masks: usize,
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// Of the file as it was last read. Not empty: the file is not what is in force.
    pub problems: Vec<Problem>,
    pub read_unix_ms: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Applied {
    epoch: u64,
    text: String,
    applied_unix_ms: u64,
}

/// A file as it is on disk without its bytes: changed when any of these did.
type Stamp = Option<(SystemTime, u64, u64)>;

pub struct RulesBoard {
    path: PathBuf,
    store: Arc<dyn Store>,
    state: Mutex<State>,
    in_force: watch::Sender<Arc<Snapshot>>,
    compiled: watch::Sender<Arc<Compiled>>,
}

struct State {
    applied: Applied,
    problems: Vec<Problem>,
    read_unix_ms: u64,
    stamp: Stamp,
}

impl RulesBoard {
    /// Brings back what was in force, then reads the file. A bad file is no error here: it shows in the status.
    pub fn open(path: PathBuf, store: Arc<dyn Store>) -> Result<RulesBoard, StoreError> {
        let last = last_applied(store.as_ref())?;
        let board = RulesBoard {
            path,
            store,
            state: Mutex::new(State {
                applied: last.clone().unwrap_or(Applied {
                    epoch: 0,
                    text: String::new(),
                    applied_unix_ms: 0,
                }),
                problems: Vec::new(),
                read_unix_ms: 0,
                stamp: None,
            }),
            in_force: watch::Sender::new(Arc::default()),
            compiled: watch::Sender::new(Arc::new(Compiled::none())),
        };
        if let Some(last) = last {
            match compile(&last.text, last.epoch) {
                Ok((snapshot, compiled)) => board.publish(snapshot, compiled),
                // Another release reads it otherwise: refuse until the file says something that this one reads.
                Err(problems) => tracing::error!(
                    epoch = last.epoch,
                    ?problems,
                    "the rules that were in force do not compile any more"
                ),
            }
        }
        board.reload()?;
        Ok(board)
    }

    /// Reads the file now. `true` when other rules are in force after than before.
    pub fn reload(&self) -> Result<bool, StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.stamp = stamp(&self.path);
        state.read_unix_ms = now_unix_ms();
        let text = match read(&self.path) {
            Ok(text) => text,
            Err(problem) => {
                self.found(&mut state, vec![problem]);
                return Ok(false);
            }
        };
        let same_text = state.applied.epoch > 0 && text == state.applied.text;
        if same_text && self.in_force.borrow().epoch.0 == state.applied.epoch {
            state.problems.clear();
            return Ok(false);
        }
        let epoch = state.applied.epoch.saturating_add(1);
        let (snapshot, compiled) = match compile(&text, epoch) {
            Ok(both) => both,
            Err(problems) => {
                self.found(&mut state, problems);
                return Ok(false);
            }
        };
        let applied = Applied {
            epoch,
            text,
            applied_unix_ms: now_unix_ms(),
        };
        let mut batch = Batch::new()
            .put(
                Table::Rules,
                epoch.to_be_bytes(),
                write_json(Table::Rules, &applied)?,
            )
            .put(Table::Meta, EPOCH_KEY, write_json(Table::Meta, &epoch)?);
        if let Some(old) = epoch.checked_sub(EPOCHS_KEPT) {
            batch = batch.delete(Table::Rules, old.to_be_bytes());
        }
        if let Err(error) = self.store.write(batch) {
            // Not in force then; the timer tries again.
            state.stamp = None;
            return Err(error);
        }
        tracing::info!(
            epoch,
            rules = snapshot.rules.len(),
            masks = snapshot.masks.len(),
            "rules are in force"
        );
        state.applied = applied;
        state.problems.clear();
        self.publish(snapshot, compiled);
        Ok(true)
    }

    /// Reads the file if it looks changed. For a timer.
    pub fn reload_if_changed(&self) -> Result<bool, StoreError> {
        let now = stamp(&self.path);
        let changed = self.state.lock().unwrap_or_else(PoisonError::into_inner).stamp != now;
        if changed { self.reload() } else { Ok(false) }
    }

    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.in_force.subscribe()
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.in_force.borrow().clone()
    }

    pub fn compiled(&self) -> Arc<Compiled> {
        self.compiled.borrow().clone()
    }

    /// The text in force.
    pub fn text(&self) -> String {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .applied
            .text
            .clone()
    }

    pub fn status(&self) -> RulesStatus {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.snapshot();
        RulesStatus {
            epoch: snapshot.epoch.0,
            applied_unix_ms: state.applied.applied_unix_ms,
            rules: snapshot.rules.len(),
            masks: snapshot.masks.len(),
            path: self.path.clone(),
            problems: state.problems.clone(),
            read_unix_ms: state.read_unix_ms,
        }
    }

    fn publish(&self, snapshot: Arc<Snapshot>, compiled: Arc<Compiled>) {
        // Compiled first: whoever wakes by the snapshot finds the tables of it or of a newer one.
        self.compiled.send_replace(compiled);
        self.in_force.send_replace(snapshot);
    }

    fn found(&self, state: &mut State, problems: Vec<Problem>) {
        if state.problems != problems {
            for problem in &problems {
                tracing::error!(file = %self.path.display(), %problem, "the rules file is not in force");
            }
        }
        state.problems = problems;
    }
}

const EPOCH_KEY: &[u8] = b"rules.epoch";

fn last_applied(store: &dyn Store) -> Result<Option<Applied>, StoreError> {
    let Some((_, epoch)) = store.get_json::<u64>(Table::Meta, EPOCH_KEY)? else {
        return Ok(None);
    };
    match store.get(Table::Rules, &epoch.to_be_bytes())? {
        Some(found) => Ok(Some(read_json(Table::Rules, &found.value)?)),
        None => Ok(Some(Applied {
            epoch,
            text: String::new(),
            applied_unix_ms: 0,
        })),
    }
}

fn compile(text: &str, epoch: u64) -> Result<(Arc<Snapshot>, Arc<Compiled>), Vec<Problem>> {
    let snapshot = Arc::new(headgate_rules::compile(text, Epoch(epoch))?);
    match Compiled::new(snapshot.clone()) {
        Ok(compiled) => Ok((snapshot, Arc::new(compiled))),
        Err(problems) => Err(problems
            .into_iter()
            .map(|p| Problem {
                line: 0,
                column: 0,
                rule: p.rule,
                message: p.reason,
            })
            .collect()),
    }
}

fn read(path: &Path) -> Result<String, Problem> {
    let wrong = |message: String| Problem {
        line: 0,
        column: 0,
        rule: String::new(),
        message,
    };
    let max = headgate_rules::TEXT_BYTES_MAX as u64;
    let mut text = String::new();
    let file =
        std::fs::File::open(path).map_err(|e| wrong(format!("{} cannot be read: {e}", path.display())))?;
    let bytes = file
        .take(max + 1)
        .read_to_string(&mut text)
        .map_err(|e| wrong(format!("{} cannot be read: {e}", path.display())))?;
    if bytes as u64 > max {
        Err(wrong(format!("{} is longer than {max} bytes", path.display())))
    } else {
        Ok(text)
    }
}

fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_store::MemoryStore;

    const GOOD: &str =
        "[[rule]]\nname = \"all read\"\nstatement = { class = [\"read\"] }\neffect = \"allow\"\n";

    fn board(dir: &Path, store: &Arc<MemoryStore>) -> RulesBoard {
        RulesBoard::open(dir.join("rules.toml"), store.clone()).unwrap()
    }

    #[test]
    fn a_bad_file_at_the_first_start_refuses_everything_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::new());
        std::fs::write(dir.path().join("rules.toml"), "[[rule]]\nnam = 1\n").unwrap();
        let board = board(dir.path(), &store);
        assert_eq!(*board.snapshot(), Snapshot::default());
        assert_eq!(board.status().epoch, 0);
        assert!(!board.status().problems.is_empty());
    }

    #[test]
    fn a_bad_change_keeps_the_last_good_rules_over_a_restart_and_a_good_one_raises_the_epoch() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rules.toml");
        let store = Arc::new(MemoryStore::new());
        std::fs::write(&file, GOOD).unwrap();
        let first = board(dir.path(), &store);
        assert_eq!((first.status().epoch, first.status().problems.len()), (1, 0));
        assert!(!first.reload_if_changed().unwrap());

        std::fs::write(&file, "nonsense").unwrap();
        assert!(!first.reload_if_changed().unwrap());
        assert_eq!(first.snapshot().rules.len(), 1);
        assert_eq!(first.status().problems.len(), 1);

        let again = board(dir.path(), &store);
        assert_eq!(
            (
                again.status().epoch,
                again.snapshot().rules.len(),
                again.status().problems.len()
            ),
            (1, 1, 1)
        );
        std::fs::write(&file, GOOD).unwrap();
        assert!(!again.reload().unwrap(), "the same text is the same epoch");
        assert_eq!((again.status().epoch, again.status().problems.len()), (1, 0));
        std::fs::write(&file, format!("{GOOD}\n[[rule]]\nname = \"no ddl\"\nstatement = {{ class = [\"ddl\"] }}\neffect = \"deny\"\n"))
            .unwrap();
        assert!(again.reload().unwrap());
        assert_eq!((again.status().epoch, again.snapshot().rules.len()), (2, 2));
        std::fs::remove_file(&file).unwrap();
        assert!(!again.reload_if_changed().unwrap());
        assert_eq!(
            (again.snapshot().rules.len(), again.status().problems.len()),
            (2, 1)
        );
        assert_eq!(board(dir.path(), &store).status().epoch, 2);
    }
}
