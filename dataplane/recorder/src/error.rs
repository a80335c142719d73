//! What keeps a recorder from running.

#[derive(Debug)]
pub enum RecorderError {
    /// The command line.
    Usage {
        what: String,
    },
    Key {
        path: std::path::PathBuf,
        why: String,
    },
    /// The database cannot be opened at start. Once running, the recorder waits for it instead.
    Database {
        why: String,
    },
    /// The database is there and is not one that this recorder can go on with.
    Unfit {
        what: String,
    },
    Io(std::io::Error),
}

impl std::fmt::Display for RecorderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RecorderError::Usage { what } => f.write_str(what),
            RecorderError::Key { path, why } => write!(f, "signing key {}: {why}", path.display()),
            RecorderError::Database { why } => write!(f, "audit database: {why}"),
            RecorderError::Unfit { what } => write!(f, "audit database cannot be continued: {what}"),
            RecorderError::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for RecorderError {}

impl From<std::io::Error> for RecorderError {
    fn from(error: std::io::Error) -> Self {
        RecorderError::Io(error)
    }
}

impl From<rocksdb::Error> for RecorderError {
    fn from(error: rocksdb::Error) -> Self {
        RecorderError::Database {
            why: error.into_string(),
        }
    }
}
