//! How a core asks for catalogs, keeps them, and forgets failures.

use headgate_gate::{CatalogLoaded, CatalogState, CatalogWanted, Clock, Core, Effect, Settings};
use headgate_mask::Catalog;
use headgate_plane::{
    Epoch, MaskMethod, MaskRule, RuleTarget, RuleWho, Secret, Snapshot, TargetAuth, TargetSpec, TargetTls,
};
use headgate_spool::{Consumer, Producer};
use std::sync::Arc;

struct World {
    core: Core,
    _consumer: Consumer,
    _folder: tempfile::TempDir,
}

fn mask(column: &str) -> MaskRule {
    MaskRule {
        name: format!("of {column}"),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        columns: vec![column.to_owned()],
        detect: Vec::new(),
        method: MaskMethod::Redact,
        unless: None,
    }
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool-0");
        let spool = Producer::open_or_create(&path, 1 << 20).unwrap();
        let _consumer = Consumer::open(&path).unwrap();
        let clock = Clock {
            now_us: 1_000_000_000,
            anchor_unix_us: 0,
        };
        let core = Core::new(
            Settings::default(),
            Vec::new(),
            spool,
            clock,
            Arc::new(|_| Err("no TLS here".to_owned())),
            [7; 32],
        );
        let mut world = World {
            core,
            _consumer,
            _folder: folder,
        };
        world.rules(1, &["public.customers.email"]);
        world
    }

    fn rules(&mut self, epoch: u64, columns: &[&str]) {
        let masks = columns.iter().map(|c| mask(c)).collect();
        let (policy, problems) = Core::compile(Arc::new(Snapshot {
            epoch: Epoch(epoch),
            rules: Vec::new(),
            masks,
        }));
        assert!(problems.is_empty(), "{problems:?}");
        self.core.policy = policy;
        self.core.catalogs_follow_rules();
    }

    /// What a session does that needs a catalog. Whether a load was asked for.
    fn needs(&mut self) -> (CatalogState, bool) {
        let state = self.core.catalog_state("orders");
        if matches!(state, CatalogState::MustWait | CatalogState::RefreshInBackground) {
            let target = TargetSpec {
                name: "orders".to_owned(),
                protocol: headgate_plane::Protocol::Postgres,
                environment: String::new(),
                address: "127.0.0.1:1".to_owned(),
                database: "orders".to_owned(),
                user: "app".to_owned(),
                tls: TargetTls::DangerOff,
                ca: None,
                auth: TargetAuth::Scram,
                labels: Vec::new(),
            };
            let labels = self.core.catalog_labels();
            self.core.want_catalog(CatalogWanted {
                target: Arc::new(target),
                secret: Secret::new("s"),
                reader: None,
                labels,
                before: None,
            });
        }
        let asked = std::mem::take(&mut self.core.effects);
        assert!(asked.iter().all(|e| matches!(e, Effect::LoadCatalog(_))) && asked.len() <= 1);
        (state, !asked.is_empty())
    }

    fn came(&mut self, changes: u64, result: Result<(), &str>) {
        let labels = self.core.catalog_labels();
        self.came_for(labels, changes, result);
    }

    fn came_for(&mut self, labels: Arc<[String]>, changes: u64, result: Result<(), &str>) {
        let result = result.map(|()| Arc::new(Catalog::default())).map_err(Into::into);
        self.core.catalog_loaded(&CatalogLoaded {
            target: "orders".into(),
            labels,
            changes,
            took_us: 5,
            result,
        });
    }

    fn later(&mut self, seconds: u64) {
        self.core.clock.now_us += seconds * 1_000_000;
    }
}

#[test]
fn many_sessions_ask_once_and_all_use_the_answer() {
    let mut world = World::new();
    assert_eq!(world.needs(), (CatalogState::MustWait, true));
    assert_eq!(world.needs(), (CatalogState::MustWait, false), "it is on its way");
    world.came(0, Ok(()));
    assert_eq!(world.needs(), (CatalogState::Fresh, false));
    let version = world.core.catalogs["orders"].version;
    world.later(31);
    assert_eq!(world.needs(), (CatalogState::RefreshInBackground, true));
    assert_eq!(world.needs(), (CatalogState::RefreshInBackground, false));
    world.came(0, Ok(()));
    assert_eq!(world.needs(), (CatalogState::Fresh, false));
    assert!(world.core.catalogs["orders"].version > version);
    world.later(61);
    assert_eq!(
        world.needs(),
        (CatalogState::MustWait, true),
        "nobody asked for two ages"
    );
}

#[test]
fn a_failure_is_never_kept_as_an_answer() {
    let mut world = World::new();
    world.needs();
    world.came(0, Err("the target refused"));
    let failed = CatalogState::Failed("the target refused".into());
    assert_eq!(world.needs(), (failed.clone(), false));
    assert!(world.core.catalogs["orders"].catalog.is_none());
    world.later(1);
    assert_eq!(world.needs(), (CatalogState::MustWait, true), "the next try");
    world.came(0, Err("the target refused"));
    world.later(1);
    assert_eq!(
        world.needs(),
        (failed.clone(), false),
        "it waits longer each time"
    );
    world.later(1);
    assert_eq!(world.needs(), (CatalogState::MustWait, true));
    world.came(0, Ok(()));
    assert_eq!(world.needs(), (CatalogState::Fresh, false));
    // What is there stays while it is young enough, whatever fails meanwhile.
    world.later(40);
    assert_eq!(world.needs(), (CatalogState::RefreshInBackground, true));
    world.came(0, Err("the target refused"));
    assert_eq!(world.needs(), (CatalogState::Fresh, false));
    world.later(21);
    assert_eq!(
        world.needs(),
        (CatalogState::MustWait, true),
        "too old to be used"
    );
    world.came(0, Err("the target refused"));
    assert_eq!(world.needs(), (failed, false));
}

#[test]
fn an_answer_that_is_older_than_a_change_is_not_fresh() {
    let mut world = World::new();
    world.needs();
    world.came(0, Ok(()));
    world.core.mark_catalog_stale("orders");
    assert_eq!(world.needs(), (CatalogState::MustWait, true));
    // The load was joined by this core after it had begun: the change is told with its count.
    world.core.catalog_changed("orders", 1);
    world.came(0, Ok(()));
    assert_eq!(
        world.needs(),
        (CatalogState::MustWait, true),
        "it began before the change"
    );
    world.came(1, Ok(()));
    assert_eq!(world.needs(), (CatalogState::Fresh, false));
    world.core.catalog_changed("orders", 1);
    assert_eq!(
        world.needs(),
        (CatalogState::Fresh, false),
        "a change that the catalog knows"
    );
    world.core.catalog_changed("orders", 2);
    assert_eq!(world.needs(), (CatalogState::MustWait, true));
}

#[test]
fn a_catalog_outlives_rules_that_leave_its_labels() {
    let mut world = World::new();
    world.needs();
    let before = world.core.catalog_labels();
    world.came(0, Ok(()));
    world.rules(2, &["public.customers.email"]);
    assert_eq!(world.needs(), (CatalogState::Fresh, false));
    world.rules(3, &["public.customers.phone"]);
    assert_eq!(world.needs(), (CatalogState::MustWait, true));
    world.came_for(before, 0, Ok(()));
    assert_eq!(
        world.needs(),
        (CatalogState::MustWait, false),
        "for labels of before, and the right ones are on their way"
    );
    world.came(0, Ok(()));
    assert_eq!(world.needs(), (CatalogState::Fresh, false));
}
