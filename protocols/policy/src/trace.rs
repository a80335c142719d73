//! What each rule says of a message, one by one: for `headgate rules explain`. Never on the way of traffic.

use crate::compiled::Compiled;
use crate::judge::Message;
use crate::part::{Asked, Judgeable};
use crate::verdict::Verdict;
use headgate_plane::Effect;

/// One rule's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTrace {
    pub rule: u32,
    /// Whether the rule matches; that it matches does not mean that it decides.
    pub matches: bool,
    /// Why it does not; empty when it does.
    pub reason: String,
}

impl Compiled {
    /// The verdict, and what every rule of the snapshot says by itself, in the operator's order.
    pub fn trace<M: Judgeable>(&self, asked: &Asked<'_, M>) -> (Verdict, Vec<RuleTrace>) {
        let verdict = self.judge(&self.context(asked.who, asked.target), asked);
        let Some(message) = Message::read(asked) else {
            return (verdict, Vec::new());
        };
        let parts: Vec<_> = message.parts().collect();
        let mut traces = Vec::with_capacity(self.rules.len());
        for (index, (compiled, rule)) in (0u32..).zip(self.rules.iter().zip(&self.snapshot().rules)) {
            let mut volatile = false;
            let missed = if let Err(field) = compiled.applies(rule, asked.who, asked.target) {
                Some(format!("{field} does not apply"))
            } else if rule.effect == Effect::Allow {
                message
                    .covered(self, rule, compiled, &parts, &mut volatile)
                    .err()
                    .map(|miss| miss.to_string())
            } else {
                message
                    .meets(self, rule, compiled, &mut volatile)
                    .err()
                    .map(|miss| miss.to_string())
            };
            traces.push(RuleTrace {
                rule: index,
                matches: missed.is_none(),
                reason: missed.unwrap_or_default(),
            });
        }
        (verdict, traces)
    }
}
