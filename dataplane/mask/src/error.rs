//! What can go wrong while masking. Each of these ends the session or leaves the catalog unknown: none lets bytes through.

use std::fmt;

/// Rows or COPY data that do not fit their plan. The gate ends the session; what was put into `out` before is masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MaskError {
    /// The run does not begin a message with `D`, or a message's length leaves the run.
    NotARow {
        /// Where it stands in the piece.
        at: usize,
    },
    /// A row has another number of fields than its plan.
    FieldCount {
        /// How many the plan has.
        planned: usize,
        /// How many the row has.
        found: usize,
    },
    /// A field's length leaves its row, or bytes are left over.
    FieldLength {
        /// Which, from 0.
        column: usize,
    },
    /// A row grew beyond what a message can carry, or was longer than the bound.
    RowTooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        max: usize,
    },
    /// COPY data in a form that the statement did not announce.
    Copy(&'static str),
}

/// A catalog that cannot be used. The caller's labels are then in doubt, and everything from user tables is covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogError {
    /// A row of another shape than the query's.
    Shape(&'static str),
    /// More relations, columns or dependencies than the bound.
    TooLarge {
        /// What.
        what: &'static str,
        /// How much it may be.
        max: usize,
    },
}

impl MaskError {
    /// The metric's label: whose wrong it is. Always the target's: the plan was made from its own announcement.
    pub fn origin(&self) -> &'static str {
        "target"
    }

    /// The little that a client may read.
    pub fn to_client(&self) -> &'static str {
        "the target's reply does not fit its announcement and was withheld"
    }
}

impl fmt::Display for MaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaskError::NotARow { at } => write!(f, "no complete DataRow at byte {at} of the run"),
            MaskError::FieldCount { planned, found } => {
                write!(f, "a row has {found} fields where {planned} were announced")
            }
            MaskError::FieldLength { column } => {
                write!(f, "the length of field {column} does not fit its row")
            }
            MaskError::RowTooLong { bytes, max } => write!(f, "a row of {bytes} bytes is longer than {max}"),
            MaskError::Copy(what) => write!(f, "COPY data: {what}"),
        }
    }
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CatalogError::Shape(what) => write!(f, "the catalog's answer has another shape: {what}"),
            CatalogError::TooLarge { what, max } => write!(f, "more than {max} {what} in the catalog"),
        }
    }
}

impl std::error::Error for MaskError {}
impl std::error::Error for CatalogError {}
