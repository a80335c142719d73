//! What the data plane and the control plane say to each other: ids, grants, snapshots, questions, answers, envelopes.
//! Does no IO.
//!
//! Both planes look down at this crate and never at each other. Everything here is plain data with `serde`; the
//! envelope codec is in [`envelope`]. A change of any type here is a change of the protocol: raise [`LINK_VERSION`].
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]
#![cfg_attr(not(test), deny(clippy::panic, clippy::cast_possible_truncation))]

pub mod address;
pub mod envelope;
pub mod grant;
pub mod ids;
pub mod parameter;
pub mod protocol;
pub mod question;
pub mod snapshot;
pub mod subject;
pub mod target;

pub use address::network_of;
pub use envelope::{LINK_VERSION, ToControl, ToData};
pub use grant::{CatalogReader, Credential, Grant, Refusal, RefusalKind, SignIn, Who};
pub use ids::{Epoch, QuestionKey, QuestionNumber, SessionId};
pub use parameter::{Parameter, ParameterKind};
pub use protocol::Protocol;
pub use question::{Answer, Question, QuestionDigest, StandsFor, Withdrawal};
pub use snapshot::{
    Class, ClassSet, Effect, MaskMethod, MaskRule, OnHold, Reviewers, Rule, RuleFamily, RuleSql,
    RuleStatement, RuleTarget, RuleWho, Snapshot, TimeWindow, Weekday,
};
pub use subject::Subject;
pub use target::{Secret, TargetAuth, TargetSpec, TargetTls};
