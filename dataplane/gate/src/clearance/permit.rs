//! What may go to the target. A message is a [`Subject`] until it is permitted, and a permit sends its bytes and no others.

use super::room::Recorded;
use headgate_plane::{Answer, Effect, Parameter, QuestionDigest};
use headgate_policy::Verdict;
use headgate_recording::{ParameterSource, ParameterView};
use std::rc::Rc;

/// One message of a client that is to be judged, with all that a record and a reviewer see of it. Made once from its bytes.
#[derive(Clone)]
pub struct Subject<'m> {
    /// The whole message, as it will be sent.
    pub wire: &'m [u8],
    /// The statement in it.
    pub text: &'m [u8],
    /// What `text` runs without saying it, in order.
    pub stands_for: &'m [StandsFor],
    /// Values that come beside the text.
    pub parameters: &'m dyn ParameterSource,
    /// The number of the record that prepared it; 0 for none.
    pub prepared: u32,
    /// The bits of its classes, as the recording has them.
    pub class: u16,
    /// Every command in it.
    pub verbs: &'m [String],
    /// What it touches, as far as its names can be told.
    pub resources: Rc<[String]>,
    /// What its facts take in memory: about what they take in a record.
    pub facts_bytes: usize,
    /// What the session has set that says what names in the text mean, by name; `None` where it is as the target gives it.
    pub settings: Option<Rc<[(String, String)]>>,
    /// Data of the client follows it, which nobody has seen when it is judged.
    pub brings_data: bool,
}

/// What a statement stands for that its text does not say.
#[derive(Clone, Debug)]
pub struct StandsFor {
    /// The exact bytes of the inner statement.
    pub text: Rc<[u8]>,
    /// Values that were bound to it.
    pub parameters: Vec<Parameter>,
}

/// A statement without values beside its text.
#[derive(Clone, Copy, Debug)]
pub struct NoParameters;

impl ParameterSource for NoParameters {
    fn count(&self) -> usize {
        0
    }

    fn each(&self, _take: &mut dyn FnMut(ParameterView<'_>)) {}
}

/// By what a subject may go.
pub(super) enum Leave<'a> {
    Verdict(&'a Verdict),
    /// A statement that is prepared now and held when it is bound: the target reads it, nothing runs.
    ToBePrepared(&'a Verdict),
    /// Spends an answer: it must approve exactly what `digest` covers.
    Approval {
        answer: Answer,
        digest: QuestionDigest,
    },
}

/// Bytes of a statement that may go to the target: the very bytes that were judged, and that are recorded.
#[derive(Debug)]
pub struct Permitted<'m> {
    bytes: &'m [u8],
}

impl<'m> Subject<'m> {
    /// The only maker of permits. `None` where the leave gives none.
    #[inline]
    pub(super) fn permit(&self, leave: Leave<'_>, _recorded: Recorded) -> Option<Permitted<'m>> {
        let permitted = match leave {
            Leave::Verdict(verdict) => verdict.effect == Effect::Allow,
            Leave::ToBePrepared(verdict) => verdict.effect != Effect::Deny,
            Leave::Approval {
                answer: Answer::Approved { digest: approved, .. },
                digest,
            } => approved == digest,
            Leave::Approval { .. } => false,
        };
        permitted.then_some(Permitted { bytes: self.wire })
    }

    /// Its parameters, owned and whole: what an approval is bound to.
    pub(super) fn parameter_list(&self) -> Vec<Parameter> {
        let mut list = Vec::with_capacity(self.parameters.count());
        self.parameters.each(&mut |p| {
            list.push(Parameter {
                kind: p.kind,
                value: p.value.map(<[u8]>::to_vec),
            });
        });
        list
    }

    /// What its record takes beside its parameters, which are cut.
    pub(super) fn record_bytes(&self) -> usize {
        let inner: usize = self.stands_for.iter().map(|s| s.text.len()).sum();
        self.text.len() + inner + self.facts_bytes
    }
}

impl Permitted<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes
    }
}
