//! What shards ask of the process.

use crate::cancels::{Cancel, Cancels};
use crate::catalog::Catalogs;
use crate::names::{Age, Names};
use crate::probes::Health;
use crate::tls::Certificate;
use headgate_analyst::{AnalystPool, Language};
use headgate_gate::{CatalogWanted, SideCancel};
use headgate_link::LinkHandle;
use headgate_plane::{SessionId, ToControl};
use headgate_shard::{Asker, Holder, Inbox, Keys, Message, Owner, Services, Shares};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};

pub struct Process {
    pub inboxes: Vec<Arc<Inbox>>,
    pub analysts: AnalystPool,
    pub names: Names,
    pub cancels: Cancels,
    pub keys: Arc<Keys>,
    pub shares: Arc<Shares>,
    pub catalogs: Catalogs,
    /// Set once, after the shards' inboxes are there: the link delivers into them.
    pub link: OnceLock<LinkHandle>,
    pub targets: Vec<Health>,
    pub certificates: Vec<Arc<Certificate>>,
    /// The last values of each shard.
    pub metrics: Vec<Mutex<Vec<(&'static str, u64)>>>,
}

impl Process {
    fn all(&self, message: impl Fn() -> Message) {
        for inbox in &self.inboxes {
            inbox.send(message());
        }
    }

    pub fn stop(&self) {
        self.all(|| Message::Stop);
    }

    /// SIGHUP: the operator says that files have changed, and waits for a word.
    pub fn reload(&self) {
        tracing::info!(
            certificates = self.certificates.len(),
            "SIGHUP: the listeners' certificates are read again"
        );
        self.certificates
            .iter()
            .for_each(|certificate| certificate.reload_now());
    }

    /// Every ten seconds: certificates that changed.
    pub fn ten_seconds(&self) {
        self.certificates
            .iter()
            .for_each(|certificate| certificate.reload());
    }

    /// What the process counts beside its shards.
    fn counted(&self) -> [(&'static str, u64); 7] {
        let cancels = &self.cancels.counters;
        [
            (
                "headgate_cancels_delivered_total",
                cancels.delivered.load(Ordering::Relaxed),
            ),
            (
                "headgate_cancels_failed_total",
                cancels.failed.load(Ordering::Relaxed),
            ),
            (
                "headgate_cancels_refused_total",
                cancels.refused.load(Ordering::Relaxed),
            ),
            ("headgate_names_refused_total", self.names.refused()),
            ("headgate_analyst_texts_refused_total", self.analysts.refused()),
            ("headgate_analyst_texts_waiting", self.analysts.waiting() as u64),
            ("headgate_half_open", self.shares.half_open_count() as u64),
        ]
    }

    /// Once a second: expiry at the shards, sums of their counters to the control plane.
    pub fn second(&self) {
        self.all(|| Message::Second);
        let mut sums: Vec<(String, f64)> = Vec::new();
        for shard in &self.metrics {
            let values = shard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for (name, value) in values.iter() {
                // Counters stay far below 2^52.
                let value = *value as f64;
                match sums.iter_mut().find(|(n, _)| n == name) {
                    Some((_, sum)) => *sum += value,
                    None => sums.push(((*name).to_owned(), value)),
                }
            }
        }
        sums.extend(
            self.counted()
                .map(|(name, value)| (name.to_owned(), value as f64)),
        );
        let catalogs = self.catalogs.counters();
        for (name, count) in [
            ("headgate_catalogs_loaded_total", &catalogs.loaded),
            ("headgate_catalogs_followed_total", &catalogs.followed),
            ("headgate_catalogs_failed_total", &catalogs.failed),
        ] {
            sums.push((name.to_owned(), count.load(Ordering::Relaxed) as f64));
        }
        for Health { name, up, .. } in &self.targets {
            sums.push((
                format!("headgate_target_up{{target=\"{name}\"}}"),
                f64::from(u8::from(up.load(Ordering::Relaxed))),
            ));
        }
        self.to_control(ToControl::Metrics { values: sums });
    }
}

impl Services for Process {
    fn to_control(&self, message: ToControl) {
        if let Some(link) = self.link.get() {
            link.send(message);
        }
    }

    fn analyse(&self, shard: usize, session: SessionId, owner: Owner, text: Arc<[u8]>) {
        let Some(inbox) = self.inboxes.get(shard).cloned() else {
            return;
        };
        let sent = text.to_vec();
        self.analysts.submit(
            owner.0,
            // What every session has analysed today.
            Language::Postgres,
            sent,
            Box::new(move |result| {
                inbox.send(Message::Analysed {
                    session,
                    text,
                    result,
                })
            }),
        );
    }

    fn resolve(&self, shard: usize, session: SessionId, address: String) {
        let Some(inbox) = self.inboxes.get(shard).cloned() else {
            return;
        };
        self.names.ask(
            &address,
            Age::Fresh,
            Box::new(move |addresses| inbox.send(Message::Resolved { session, addresses })),
        );
    }

    fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    fn shares(&self) -> &Arc<Shares> {
        &self.shares
    }

    fn cancel_session(&self, asker: Asker, holder: Holder, token: Arc<[u8]>) {
        if let Some(inbox) = self.inboxes.get(holder.shard) {
            inbox.send(Message::Cancel {
                asker,
                session: holder.session,
                token,
            });
        }
    }

    fn cancel_target(&self, asker: Asker, address: SocketAddr, cancel: SideCancel) {
        let Some(inbox) = self.inboxes.get(asker.shard).cloned() else {
            return;
        };
        let done = Box::new(move || {
            inbox.send(Message::CancelDone {
                session: asker.session,
            })
        });
        self.cancels.put(Cancel {
            cancel,
            address,
            done,
        });
    }

    fn cancel_done(&self, asker: Asker) {
        if let Some(inbox) = self.inboxes.get(asker.shard) {
            inbox.send(Message::CancelDone {
                session: asker.session,
            });
        }
    }

    fn catalog_changed(&self, target: Arc<str>) -> u64 {
        let changes = self.catalogs.changed(&target);
        self.all(|| Message::CatalogChanged {
            target: Arc::clone(&target),
            changes,
        });
        changes
    }

    fn load_catalog(&self, wanted: CatalogWanted) {
        self.catalogs.load(wanted);
    }

    fn metrics(&self, shard: usize, values: &[(&'static str, u64)]) {
        if let Some(place) = self.metrics.get(shard) {
            let mut place = place.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            place.clear();
            place.extend_from_slice(values);
        }
    }
}
