//! What a shard asks of the rest of the process. Every method returns at once.

use crate::keys::{Holder, Keys};
use crate::shares::{Owner, Shares};
use headgate_gate::{CatalogWanted, SideCancel};
use headgate_plane::{SessionId, ToControl};
use std::net::SocketAddr;
use std::sync::Arc;

/// The connection that brought a cancel request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub shard: usize,
    pub session: SessionId,
}

pub trait Services: Send + Sync {
    fn to_control(&self, message: ToControl);
    /// Answered by `Message::Analysed` to shard `shard`. Owners have equal shares of the analysts.
    fn analyse(&self, shard: usize, session: SessionId, owner: Owner, text: Arc<[u8]>);
    /// `host:port` to addresses; answered by `Message::Resolved`.
    fn resolve(&self, shard: usize, session: SessionId, address: String);
    /// The cancel keys of all shards.
    fn keys(&self) -> &Arc<Keys>;
    /// What callers have of all shards.
    fn shares(&self) -> &Arc<Shares>;
    /// To the holder's shard, and to no other: `Message::Cancel`.
    fn cancel_session(&self, asker: Asker, holder: Holder, token: Arc<[u8]>);
    /// Tells the target at `address`, where the session is, on a connection of its own, beside the packet path; then the asker.
    fn cancel_target(&self, asker: Asker, address: SocketAddr, cancel: SideCancel);
    /// To the asker: `Message::CancelDone`.
    fn cancel_done(&self, asker: Asker);
    /// To every shard: `Message::CatalogChanged`. How many changes of this target have been told, with this one.
    fn catalog_changed(&self, target: Arc<str>) -> u64;
    /// Reads a target's catalog beside the packet path: one at a time for a target and its labels, whoever asks. To every
    /// shard, in any case and within bounds of time: `Message::CatalogLoaded`.
    fn load_catalog(&self, wanted: CatalogWanted);
    fn metrics(&self, shard: usize, values: &[(&'static str, u64)]);
}
