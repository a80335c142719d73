//! What every protocol shares between a statement and its forwarding: the doors, the permit, room to record, refusals.

pub mod doors;
pub mod permit;
pub mod refused;
pub mod room;
