//! One data plane on the link.
//!
//! Order: Hello → Welcome, snapshot; then each side as it likes. News (snapshots, answers, revocations) are subscribed to
//! before the snapshot is sent, so nothing falls between. Whoever missed news is cut off: a new connection begins whole.

use super::wire::{self, LinkError};
use super::{SIGN_INS_MAX, UNSENT_MAX, sign_in};
use headgate_api::control::blocking;
use headgate_api::metrics::Metrics;
use headgate_api::{Control, LiveSession};
use headgate_plane::question::Asked;
use headgate_plane::{Answer, LINK_VERSION, Question, QuestionKey, Refusal, RefusalKind, ToControl, ToData};
use headgate_questions::DeskError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncWrite, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};

const HELLO_WAIT: Duration = Duration::from_secs(5);
/// A data plane that takes nothing for so long is not alive.
const WRITE_WAIT: Duration = Duration::from_secs(10);
const NAME_BYTES_MAX: usize = 255;

pub(super) async fn serve(stream: UnixStream, control: Arc<Control>) -> Result<(), LinkError> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    let hello = tokio::time::timeout(HELLO_WAIT, wire::read(&mut reader))
        .await
        .map_err(|_| LinkError::NoHello)??;
    let Some(ToControl::Hello {
        version,
        appliance,
        boot,
        epoch,
    }) = hello
    else {
        return Err(LinkError::NoHello);
    };
    let welcome = ToData::Welcome {
        version: LINK_VERSION,
    };
    if version != LINK_VERSION {
        // Told, so that its log can say it as well.
        wire::write(&mut writer, &welcome).await?;
        return Err(LinkError::Version {
            theirs: version,
            ours: LINK_VERSION,
        });
    }
    if appliance.len() > NAME_BYTES_MAX || appliance.contains('/') {
        return Err(LinkError::NoHello);
    }
    tracing::info!(
        appliance,
        boot = format!("{boot:032x}"),
        epoch = epoch.0,
        "a data plane has connected"
    );

    let (to_data, outbox) = mpsc::channel(UNSENT_MAX);
    let plane = Plane {
        prefix: format!("{appliance}/"),
        origin: format!("{appliance}/{boot:032x}"),
        appliance,
        sign_ins: Arc::new(Semaphore::new(SIGN_INS_MAX)),
        control,
        to_data,
    };
    // What it does not tell again is gone; its earlier boots wait for nothing.
    plane.control.registry.forget_appliance(&plane.prefix);
    let (desk, prefix, origin) = (
        plane.control.desk.clone(),
        plane.prefix.clone(),
        plane.origin.clone(),
    );
    let withdrawn = blocking(move || desk.withdraw_earlier_boots(&prefix, &origin)).await;
    if let Ok(Err(error)) = withdrawn {
        tracing::error!(%error, "questions of an earlier boot could not be withdrawn");
    }
    plane.send(welcome)?;
    plane.control.links.fetch_add(1, Ordering::Relaxed);
    let ended = tokio::select! {
        // In this order, so that news are subscribed to before the first message is read.
        biased;
        ended = write_out(&mut writer, outbox) => ended,
        ended = tell_news(&plane) => ended,
        ended = read_in(&mut reader, &plane) => ended,
    };
    plane.control.links.fetch_sub(1, Ordering::Relaxed);
    plane.control.metrics.gone(&plane.appliance);
    ended
}

/// A connected data plane. Questions and sessions outlive the connection: the data plane goes on without us.
#[derive(Clone)]
struct Plane {
    appliance: String,
    prefix: String,
    origin: String,
    control: Arc<Control>,
    sign_ins: Arc<Semaphore>,
    to_data: mpsc::Sender<ToData>,
}

impl Plane {
    fn send(&self, message: ToData) -> Result<(), LinkError> {
        self.to_data.try_send(message).map_err(|_| LinkError::TooSlow)
    }

    /// From a task of its own; if the link is gone, the data plane asks again on the next.
    async fn reply(&self, message: ToData) {
        let _ = self.to_data.send(message).await;
    }
}

async fn write_out(
    writer: &mut (impl AsyncWrite + Unpin),
    mut outbox: mpsc::Receiver<ToData>,
) -> Result<(), LinkError> {
    while let Some(message) = outbox.recv().await {
        tokio::time::timeout(WRITE_WAIT, wire::write(writer, &message))
            .await
            .map_err(|_| LinkError::TooSlow)??;
    }
    Ok(())
}

/// Snapshots, answers and revocations, as they happen.
async fn tell_news(plane: &Plane) -> Result<(), LinkError> {
    let mut rules = plane.control.rules.subscribe();
    let mut questions = plane.control.desk.subscribe();
    let mut orders = plane.control.registry.orders();
    let snapshot = rules.borrow_and_update().clone();
    plane.send(ToData::Snapshot(snapshot))?;
    loop {
        tokio::select! {
            changed = rules.changed() => {
                changed.map_err(|_| LinkError::Missed)?;
                let snapshot = rules.borrow_and_update().clone();
                plane.send(ToData::Snapshot(snapshot))?;
            }
            event = questions.recv() => {
                let event = event.map_err(|_| LinkError::Missed)?;
                // An answer to another data plane's question means nothing to this one: it knows no such key.
                if let Some(answer) = event.answer {
                    plane.send(ToData::Answer { key: event.key, answer })?;
                }
            }
            order = orders.recv() => {
                let order = order.map_err(|_| LinkError::Missed)?;
                plane.send(ToData::Revoke { sessions: order.sessions, reason: order.reason })?;
            }
        }
    }
}

async fn read_in(
    reader: &mut BufReader<tokio::net::unix::OwnedReadHalf>,
    plane: &Plane,
) -> Result<(), LinkError> {
    while let Some(message) = wire::read(reader).await? {
        match message {
            ToControl::Hello { .. } => return Err(LinkError::NoHello),
            ToControl::SignIn(ask) => {
                let session = ask.session;
                let Ok(permit) = plane.sign_ins.clone().try_acquire_owned() else {
                    let detail = format!("more than {SIGN_INS_MAX} sign-ins at once");
                    plane.send(ToData::SignedIn {
                        session,
                        result: Err(Refusal {
                            kind: RefusalKind::Unavailable,
                            detail,
                        }),
                    })?;
                    continue;
                };
                let plane = plane.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    let result = sign_in::answer(&plane.control, *ask).await;
                    plane
                        .reply(ToData::SignedIn {
                            session,
                            result: result.map(Box::new),
                        })
                        .await;
                });
            }
            // Questions in the order they come, each on disk before the next: their number is their order.
            ToControl::Ask(question) => ask(plane, *question).await?,
            ToControl::Withdraw { key, why } => {
                let desk = plane.control.desk.clone();
                note(
                    blocking(move || desk.withdraw(key, why).map(|_| ()))
                        .await
                        .unwrap_or(Ok(())),
                    key,
                    "withdrawn",
                );
            }
            ToControl::Spent { key } => {
                let desk = plane.control.desk.clone();
                note(
                    blocking(move || desk.spent(key).map(|_| ()))
                        .await
                        .unwrap_or(Ok(())),
                    key,
                    "spent",
                );
            }
            ToControl::SessionOpened {
                session,
                who,
                target,
                credential_id,
                started_unix_ms,
            } => {
                let live = LiveSession {
                    session,
                    who,
                    target,
                    credential_id,
                    started_unix_ms,
                    origin: plane.origin.clone(),
                };
                if let Some(reason) = plane.control.session_opened(live) {
                    plane.send(ToData::Revoke {
                        sessions: vec![session],
                        reason,
                    })?;
                }
            }
            ToControl::SessionClosed { session } => plane.control.registry.closed(session),
            ToControl::Metrics { values } => plane.control.metrics.report(&plane.appliance, values),
        }
    }
    Ok(())
}

async fn ask(plane: &Plane, question: Question) -> Result<(), LinkError> {
    let key = question.key;
    let (desk, origin) = (plane.control.desk.clone(), plane.origin.clone());
    let epoch = plane.control.rules.snapshot().epoch;
    let counters = &plane.control.metrics;
    let asked = blocking(move || {
        // By the rules of now, not of the last tick: an approval under earlier ones is given to nobody.
        desk.rules_are(epoch)?;
        desk.ask(&origin, question)
    });
    match asked.await {
        Ok(Ok((asked, answer))) => {
            Metrics::count(&counters.questions_asked);
            let Asked { number, .. } = &asked;
            tracing::info!(%number, session = %key.session, "a statement is held");
            plane.send(ToData::Asked(asked))?;
            // Answered while the link was down, or asked before by an identical statement that did not wait.
            if let Some(answer) = answer {
                plane.send(ToData::Answer { key, answer })?;
            }
            Ok(())
        }
        Ok(Err(error)) => {
            Metrics::count(&counters.questions_refused);
            tracing::warn!(%error, session = %key.session, "a question was refused, which denies its statement");
            let answer = Answer::Denied {
                reviewer: "headgate".to_owned(),
                reason: error.to_string(),
            };
            plane.send(ToData::Answer { key, answer })
        }
        Err(_) => Err(LinkError::Missed),
    }
}

fn note(result: Result<(), DeskError>, key: QuestionKey, what: &'static str) {
    match result {
        // A second withdrawal after a reconnect, or one that crossed the answer.
        Ok(()) | Err(DeskError::NotOpen { .. } | DeskError::Unknown) => {}
        Err(error) => tracing::error!(%error, session = %key.session, what, "a question could not be ended"),
    }
}
