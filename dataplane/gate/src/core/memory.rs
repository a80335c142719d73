//! What sessions may keep, in bytes and in sum: a meter per session below one per principal below one per core.
//!
//! Whatever a client can make a session keep (prepared statements with their columns and plans, named portals with their
//! parameters, a long message that is not whole yet) holds a [`Charge`], which gives its bytes back when it goes. Before
//! more is kept [`Meter::admits`] is asked; it is single-threaded, so what was admitted is there.
//!
//! Bounds: of a session `session_bytes_max`, of all sessions of a principal a quarter of the core's, of the core
//! `core_bytes_max` (settings).

use std::cell::Cell;
use std::rc::Rc;

/// What is kept, against a bound, and against the bounds above it.
#[derive(Debug)]
pub struct Meter {
    used: Cell<usize>,
    max: usize,
    above: Option<Rc<Meter>>,
}

/// Whose share is used up: how far above the session the meter is that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The session's own bound.
    Session { bytes: usize, max: usize },
    /// A bound above the session's.
    Above { max: usize },
}

impl Meter {
    /// Nothing is kept yet.
    pub fn new(max: usize, above: Option<Rc<Meter>>) -> Rc<Meter> {
        Rc::new(Meter {
            used: Cell::new(0),
            max,
            above,
        })
    }

    /// Bytes that are kept.
    pub fn used(&self) -> usize {
        self.used.get()
    }

    /// Bytes that may be kept.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Whether `bytes` more may be kept.
    pub fn admits(&self, bytes: usize) -> Result<(), Full> {
        let after = self.used.get().saturating_add(bytes);
        if after > self.max {
            return Err(Full::Session {
                bytes: after,
                max: self.max,
            });
        }
        let mut above = self.above.as_deref();
        while let Some(meter) = above {
            if meter.used.get().saturating_add(bytes) > meter.max {
                return Err(Full::Above { max: meter.max });
            }
            above = meter.above.as_deref();
        }
        Ok(())
    }

    fn change(&self, from: usize, to: usize) {
        let mut meter = Some(self);
        while let Some(m) = meter {
            m.used.set(m.used.get().saturating_sub(from).saturating_add(to));
            meter = m.above.as_deref();
        }
    }
}

/// Bytes on a session's meter, given back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    meter: Rc<Meter>,
    bytes: Cell<usize>,
}

impl Charge {
    /// Keeps so many bytes, until it is dropped.
    pub fn new(meter: &Rc<Meter>, bytes: usize) -> Charge {
        meter.change(0, bytes);
        Charge {
            meter: Rc::clone(meter),
            bytes: Cell::new(bytes),
        }
    }

    /// Keeps so many instead.
    pub fn set(&self, bytes: usize) {
        let before = self.bytes.replace(bytes);
        if before != bytes {
            self.meter.change(before, bytes);
        }
    }

    /// Keeps so many more.
    pub fn add(&self, bytes: usize) {
        self.set(self.bytes.get().saturating_add(bytes));
    }

    /// How many it keeps.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Against whose bound.
    pub fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.meter.change(self.bytes.get(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_given_back_at_every_level() {
        let core = Meter::new(100, None);
        let principal = Meter::new(50, Some(Rc::clone(&core)));
        let (a, b) = (
            Meter::new(40, Some(Rc::clone(&principal))),
            Meter::new(40, Some(Rc::clone(&principal))),
        );
        let charge = Charge::new(&a, 30);
        assert_eq!((a.used(), principal.used(), core.used()), (30, 30, 30));
        assert_eq!(a.admits(11), Err(Full::Session { bytes: 41, max: 40 }));
        assert_eq!(
            b.admits(21),
            Err(Full::Above { max: 50 }),
            "the principal's other session feels it"
        );
        assert_eq!(b.admits(20), Ok(()));
        charge.set(5);
        charge.add(1);
        assert_eq!((a.used(), principal.used(), core.used()), (6, 6, 6));
        drop(charge);
        assert_eq!((a.used(), principal.used(), core.used()), (0, 0, 0));
    }

    #[test]
    fn another_principal_does_not_feel_a_full_one() {
        let core = Meter::new(100, None);
        let (mallory, alice) = (
            Meter::new(25, Some(Rc::clone(&core))),
            Meter::new(25, Some(Rc::clone(&core))),
        );
        let _all = Charge::new(&mallory, 25);
        assert!(mallory.admits(1).is_err());
        assert_eq!(alice.admits(25), Ok(()));
    }
}
