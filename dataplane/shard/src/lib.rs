//! A core's loop: sockets of the ring on one side, sessions of the gate on the other, and an inbox from other threads.
//!
//! ```text
//! ring ─ Handler calls ─▶ Shard ─ bytes, time, answers ─▶ Session ─ effects ─▶ Services (link, analysts, resolver)
//!                           ▲────────────── Inbox ◀────────────────────────────────────┘
//! ```
//!
//! Invariants: a session never changes its shard; the shard blocks on nothing; what a session wants of the outside goes
//! through [`Services`], whose methods return at once, and comes back through the [`Inbox`].
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]
#![cfg_attr(not(test), deny(clippy::panic, clippy::cast_possible_truncation))]

mod inbox;
mod keys;
mod services;
mod shard;
mod shares;
mod table;
mod watch;

pub use inbox::{Inbox, Message};
pub use keys::{Holder, KeyHeld, Keys};
pub use services::{Asker, Services};
pub use shard::{Shard, WallClock};
pub use shares::{HalfOpen, Owner, Seat, ShareLimits, Shares};
pub use watch::watch_spools;
