//! Bytes of a reply that its caller may read. Only this crate makes them: the target's bytes have no other way to a client.

use crate::caller::Caller;
use crate::plan::Plan;

/// Whole messages, or a piece of one, that may go to the client.
#[derive(Clone, Copy, Debug)]
pub struct Masked<'a>(&'a [u8]);

impl<'a> Masked<'a> {
    /// A message that carries no value of a table by what it is: completions, readiness, descriptions, openings of COPY.
    /// `None` for every other.
    #[inline]
    pub fn without_values(message: &'a [u8]) -> Option<Masked<'a>> {
        match message.first()? {
            b'1' | b'2' | b'3' | b'C' | b'G' | b'H' | b'I' | b'T' | b'Z' | b'c' | b'n' | b's' | b't' => {
                Some(Masked(message))
            }
            _ => None,
        }
    }

    /// Whatever it is: `None` when some mask rule binds the caller.
    #[inline]
    pub fn for_free_caller(caller: &Caller, message: &'a [u8]) -> Option<Masked<'a>> {
        caller.is_free().then_some(Masked(message))
    }

    /// What a client may read.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }
}

/// Leave to hand on the rows of one result as they are: no mask rule binds their caller, or none reaches them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassRows(());

impl PassRows {
    /// `None` when some mask rule binds the caller.
    #[inline]
    pub fn of_caller(caller: &Caller) -> Option<PassRows> {
        caller.is_free().then_some(PassRows(()))
    }

    /// `None` when the plan covers, or looks at, anything.
    #[inline]
    pub fn of_plan(plan: &Plan) -> Option<PassRows> {
        plan.is_pass().then_some(PassRows(()))
    }

    /// Rows that need no cover under this plan, as they are.
    #[inline]
    pub fn pass<'a>(&self, rows: &'a [u8]) -> Masked<'a> {
        Masked(rows)
    }
}
