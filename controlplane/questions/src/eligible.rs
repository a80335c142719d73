//! Who may answer a question. Pure.
//!
//! Names of people are compared without regard to ASCII case and issuer where that refuses more (is it the asker? has
//! this person voted?), and exactly where it would permit more (is this a named reviewer?).

use crate::error::DeskError;
use headgate_plane::{Question, Who};

/// Who answers, and by which right.
#[derive(Clone, Debug)]
pub enum Reviewer {
    /// Somebody with a credential. Must be one whom the question names.
    Named(Who),
    /// The operator on the appliance itself (the admin socket's peer). Needs no naming; never an asker; one person.
    Operator(Who),
}

impl Reviewer {
    pub fn who(&self) -> &Who {
        match self {
            Reviewer::Named(who) | Reviewer::Operator(who) => who,
        }
    }
}

/// `Ok` when this reviewer may say yes or no to this question.
pub fn may_review(question: &Question, reviewer: &Reviewer) -> Result<(), DeskError> {
    let who = reviewer.who();
    if who.principal.is_empty() {
        return Err(DeskError::NotAReviewer);
    }
    // Asked before all else: an asker who is also a reviewer reads the more useful reason.
    if is_asker(question, who) {
        return Err(DeskError::OwnQuestion);
    }
    // A person says yes. An agent that acts for a person is not that person, whoever is answerable for it.
    if !who.chain.is_empty() {
        return Err(DeskError::ThroughAnActor {
            actor: who.actor().to_owned(),
        });
    }
    match reviewer {
        Reviewer::Operator(_) => Ok(()),
        Reviewer::Named(who) => {
            let wanted = &question.reviewers;
            let named = wanted.principals.contains(&who.principal)
                || who.groups.iter().any(|g| wanted.groups.contains(g));
            if named {
                Ok(())
            } else {
                Err(DeskError::NotAReviewer)
            }
        }
    }
}

/// Whether anybody of the reviewer's credential is anybody of the asker's: principal or actor, on either side.
fn is_asker(question: &Question, who: &Who) -> bool {
    let asker = &question.who;
    let mut askers = std::iter::once(&asker.principal).chain(&asker.chain);
    askers.any(|a| same_person(a, &who.principal) || who.chain.iter().any(|r| same_person(a, r)))
}

/// The operator `local:alice` is taken for the principal `alice`: more is refused so, never less.
pub(crate) fn same_person(a: &str, b: &str) -> bool {
    let bare = |name: &str| -> String {
        let name = name.trim();
        name.strip_prefix("local:").unwrap_or(name).to_ascii_lowercase()
    };
    bare(a) == bare(b)
}
