//! What the target reports of its session's settings: a report that contradicts what the gateway pins ends the session.
//!
//! Judge and target must read the same bytes alike, and a statement that nobody saw through (a view over `pg_settings`, a
//! function) may have changed how the target reads. The target says so in ParameterStatus before it reads the next
//! statement.

use super::traffic::{Traffic, TrafficEnd};
use crate::postgres::denial::Denial;

impl Traffic {
    /// An error ends the session before the report reaches the client and before anything more is sent.
    pub(super) fn reported(&self, name: &[u8], value: &[u8]) -> Result<(), TrafficEnd> {
        let Some(contradiction) = self.pins.and_then(|pins| pins.contradiction(name, value)) else {
            return Ok(());
        };
        tracing::warn!(target_name = %self.clearance.target().name, session = %self.clearance.session(), %contradiction, "target: a pinned setting has changed");
        Err(TrafficEnd::Contradicted(
            Denial::new("57P01", format!("terminating connection: {contradiction}"))
                .detail("Headgate reads statements as the pinned setting has them; the target would read them otherwise.")
                .hint("Leave the setting as it is; what changed it is in the recording of this session."),
        ))
    }
}
