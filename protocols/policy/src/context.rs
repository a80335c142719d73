//! The rules and masks that one caller on one target can meet.

use headgate_plane::Epoch;

/// Names a set of applicable rules and masks together with what of the identity their conditions can see. Two contexts
/// share an id only if every message gets the same verdict under both; ids are never reused in this process, not by
/// another epoch either. So it can be part of a cache's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextId(pub u64);

/// Made by [`crate::Compiled::context`], once per session and epoch. Belongs to the [`crate::Compiled`] that made it.
#[derive(Clone, Debug)]
pub struct Context {
    pub(crate) id: ContextId,
    pub(crate) epoch: Epoch,
    /// Indexes of the rules that who and target let apply, in the operator's order.
    pub(crate) rules: Box<[u32]>,
    pub(crate) masks: Box<[u32]>,
    pub(crate) names_wanted: bool,
    pub(crate) any_allow: bool,
    pub(crate) any_hold: bool,
}

impl Context {
    pub fn id(&self) -> ContextId {
        self.id
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Indexes of the masks that cover for this caller, `unless` taken into account: [`crate::Compiled::mask`].
    pub fn masks(&self) -> &[u32] {
        &self.masks
    }

    /// Indexes of the rules that can decide for this caller: [`crate::Compiled::rule`].
    pub fn rules(&self) -> &[u32] {
        &self.rules
    }

    /// Whether a rule here looks at names, so that they must be resolved before judging.
    pub fn any_rule_names_resources(&self) -> bool {
        self.names_wanted
    }

    /// Whether any allow or hold rule can apply: without one, every statement is denied.
    pub fn opens(&self) -> bool {
        self.any_allow || self.any_hold
    }
}
