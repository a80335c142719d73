//! What happens without anybody asking: deadlines, a changed rules file, revocations.

use crate::run::step;
use headgate_api::Control;
use headgate_api::control::{blocking, now_unix_ms};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch::Receiver;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

const DEADLINE_TICK: Duration = Duration::from_millis(250);
const RULES_TICK: Duration = Duration::from_millis(500);

pub(crate) fn start(tasks: &mut JoinSet<()>, control: &Arc<Control>, stopped: &Receiver<bool>) {
    tasks.spawn(deadlines(control.clone(), stopped.clone()));
    tasks.spawn(rules_file(control.clone(), stopped.clone()));
    tasks.spawn(revocations(control.clone(), stopped.clone()));
}

async fn deadlines(control: Arc<Control>, mut stopped: Receiver<bool>) {
    let mut timer = interval(DEADLINE_TICK);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while step(&mut timer, &mut stopped).await {
        let (desk, epoch) = (control.desk.clone(), control.rules.snapshot().epoch);
        let passed = blocking(move || {
            desk.rules_are(epoch)?;
            desk.expire(now_unix_ms())
        });
        if let Ok(Err(error)) = passed.await {
            tracing::error!(%error, "deadlines of questions could not be kept");
        }
    }
}

async fn rules_file(control: Arc<Control>, mut stopped: Receiver<bool>) {
    let mut timer = interval(RULES_TICK);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while step(&mut timer, &mut stopped).await {
        let rules = control.rules.clone();
        if let Ok(Err(error)) = blocking(move || rules.reload_if_changed()).await {
            tracing::error!(%error, "changed rules could not be stored, and are not in force");
        }
    }
}

/// Ends live sessions whose identity is revoked, wherever the revocation came from.
async fn revocations(control: Arc<Control>, mut stopped: Receiver<bool>) {
    let mut news = control.identity.revocations();
    loop {
        let revocation = tokio::select! {
            revocation = news.recv() => revocation,
            () = crate::run::stopped(&mut stopped) => return,
        };
        let control = control.clone();
        let ended = match revocation {
            Ok(revocation) => blocking(move || Ok(control.end_revoked(&revocation))).await,
            // Some were missed: all that still matter, again.
            Err(RecvError::Lagged(_)) => {
                blocking(move || {
                    Ok(control
                        .identity
                        .revocation_list()?
                        .iter()
                        .map(|r| control.end_revoked(r))
                        .sum())
                })
                .await
            }
            Err(RecvError::Closed) => return,
        };
        match ended {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(sessions)) => tracing::info!(sessions, "live sessions were ended by a revocation"),
            Ok(Err(error)) => {
                let error: headgate_identity::IdentityError = error;
                tracing::error!(%error, "revocations could not be read");
            }
        }
    }
}
