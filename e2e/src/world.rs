//! What the tests of one binary share: one PostgreSQL with the shop in it, one gate that allows everything.

use crate::reaper::Reaper;
use crate::{Authority, Gate, Postgres, Result, Setup, during};
use std::sync::{Mutex, OnceLock};

pub struct World {
    pub postgres: Postgres,
    _reaper: Reaper,
    _folder: tempfile::TempDir,
}

/// A small shop; the same as the demo's.
pub const SHOP: &str = include_str!("../../demo/shop.sql");

impl World {
    fn start() -> Result<World> {
        let folder = tempfile::Builder::new()
            .prefix("headgate-ca-")
            .tempdir()
            .map_err(during("temporary folder"))?;
        let reaper = Reaper::new(&format!("rm -rf '{}'", folder.path().display()))?;
        let authority = Authority::new(folder.path())?;
        let postgres = Postgres::start(&authority)?;
        postgres.sql("shop", &format!("SET ROLE shop_app;\n{SHOP}"))?;
        Ok(World {
            postgres,
            _reaper: reaper,
            _folder: folder,
        })
    }

    /// The one of this test binary. Its server ends with the process ([`crate::reaper`]).
    pub fn shared() -> &'static World {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| World::start().unwrap_or_else(|why| panic!("{why}")))
    }

    /// A gate of the caller's own before the shared server.
    pub fn gate(&self, setup: &Setup) -> Gate {
        Gate::start(&self.postgres, setup).unwrap_or_else(|why| panic!("{why}"))
    }

    /// A gate that the tests of this binary share: everything is allowed.
    pub fn open_gate() -> &'static Gate {
        static GATE: OnceLock<Gate> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
        let _one = STARTING.lock();
        GATE.get_or_init(|| World::shared().gate(&Setup::default()))
    }
}
