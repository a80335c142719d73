//! What shards ask of the process.

use crate::side::{Job, Side};
use crate::tls::Certificate;
use headgate_analyst::AnalystPool;
use headgate_link::LinkHandle;
use headgate_plane::{SessionId, TargetSpec, ToControl};
use headgate_shard::{Asker, Inbox, Message, Services};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

pub struct Process {
    pub inboxes: Vec<Arc<Inbox>>,
    pub analysts: AnalystPool,
    pub side: Side,
    /// Set once, after the shards' inboxes are there: the link delivers into them.
    pub link: OnceLock<LinkHandle>,
    /// Each target's name, address and whether it was reached when last tried.
    pub targets: Vec<(String, String, Arc<AtomicBool>)>,
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

    /// Every ten seconds: certificates that changed, targets that came or went.
    pub fn ten_seconds(&self) {
        self.certificates.iter().for_each(|certificate| certificate.reload());
        for (_, address, up) in &self.targets {
            self.side.put(Job::Probe { address: address.clone(), up: Arc::clone(up) });
        }
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
        for (name, _, up) in &self.targets {
            sums.push((format!("headgate_target_up{{target=\"{name}\"}}"), f64::from(u8::from(up.load(Ordering::Relaxed)))));
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

    fn analyse(&self, shard: usize, session: SessionId, text: Arc<[u8]>) {
        let Some(inbox) = self.inboxes.get(shard).cloned() else { return };
        let sent = text.to_vec();
        self.analysts.submit(sent, Box::new(move |result| inbox.send(Message::Analysed { session, text, result })));
    }

    fn resolve(&self, shard: usize, session: SessionId, address: String) {
        if let Some(inbox) = self.inboxes.get(shard).cloned() {
            self.side.put(Job::Resolve { inbox, session, address });
        }
    }

    fn cancel_session(&self, asker: Asker, pid: u32, key: Arc<[u8]>) {
        self.all(|| Message::Cancel { asker, pid, key: Arc::clone(&key) });
    }

    fn cancel_target(&self, asker: Asker, target: Arc<TargetSpec>, pid: u32, key: Vec<u8>) {
        if let Some(inbox) = self.inboxes.get(asker.shard).cloned() {
            self.side.put(Job::Cancel { inbox, asker: asker.session, target, pid, key });
        }
    }

    fn cancel_done(&self, asker: Asker) {
        if let Some(inbox) = self.inboxes.get(asker.shard) {
            inbox.send(Message::CancelDone { session: asker.session });
        }
    }

    fn catalog_changed(&self, target: Arc<str>) {
        self.all(|| Message::CatalogChanged(Arc::clone(&target)));
    }

    fn metrics(&self, shard: usize, values: &[(&'static str, u64)]) {
        if let Some(place) = self.metrics.get(shard) {
            let mut place = place.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            place.clear();
            place.extend_from_slice(values);
        }
    }
}
