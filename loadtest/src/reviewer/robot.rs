//! What the robot does: listens for questions, answers them, and ends a session from time to time.

use super::http::Http;
use super::{ANSWERING_MAX, NOTES_MAX, Notes, ReviewerPlan, VICTIM};
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

const AGAIN_AFTER: Duration = Duration::from_millis(200);
const LINE_BYTES_MAX: usize = 1 << 20;

type Shared = Arc<Mutex<Notes>>;

fn note(notes: &Shared, with: impl FnOnce(&mut Notes)) {
    with(&mut notes.lock().unwrap_or_else(PoisonError::into_inner));
}

struct Robot {
    plan: ReviewerPlan,
    notes: Shared,
    reviewer: Http,
    admin: Http,
    answering: Arc<Semaphore>,
    /// Questions that somebody here has taken on: one may be heard of twice.
    taken: Mutex<HashSet<String>>,
}

pub async fn run(plan: ReviewerPlan, notes: Shared, mut stopped: watch::Receiver<bool>) {
    let reviewer = Http::new(&plan.api, plan.token.as_deref());
    let admin = Http::new(&plan.api, plan.admin_token.as_deref().or(plan.token.as_deref()));
    let robot = Arc::new(Robot {
        plan,
        notes,
        reviewer,
        admin,
        answering: Arc::new(Semaphore::new(ANSWERING_MAX)),
        taken: Mutex::default(),
    });
    let work = async {
        tokio::join!(robot.listen(), robot.revoke());
    };
    tokio::select! {
        () = work => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

impl Robot {
    async fn listen(self: &Arc<Self>) {
        loop {
            if let Err(what) = self.hear().await {
                note(&self.notes, |notes| notes.failed(what));
            }
            // A stream ends every quarter of an hour, and with its credential.
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn hear(self: &Arc<Self>) -> Result<(), String> {
        let mut events = self.reviewer.events().await?.into_body();
        self.answer_open().await?;
        let mut line = Vec::new();
        while let Some(frame) = events.frame().await {
            let frame = frame.map_err(|e| format!("events: {e}"))?;
            let Some(bytes) = frame.data_ref() else { continue };
            for byte in bytes {
                if *byte != b'\n' {
                    if line.len() >= LINE_BYTES_MAX {
                        return Err("events: a line longer than its bound".to_owned());
                    }
                    line.push(*byte);
                    continue;
                }
                self.heard(&line).await?;
                line.clear();
            }
        }
        Ok(())
    }

    async fn heard(self: &Arc<Self>, line: &[u8]) -> Result<(), String> {
        let Some(data) = line.strip_prefix(b"data:") else {
            return Ok(());
        };
        let Ok(event) = serde_json::from_slice::<Value>(data) else {
            return Ok(());
        };
        if event.get("events").is_some() {
            // Some were missed.
            return self.answer_open().await;
        }
        if event.get("kind").and_then(Value::as_str) == Some("asked")
            && let Some(number) = event.get("number").and_then(Value::as_str)
        {
            self.spawn_answer(number.to_owned()).await;
        }
        Ok(())
    }

    async fn answer_open(self: &Arc<Self>) -> Result<(), String> {
        let (open, _) = self
            .reviewer
            .ask(Method::GET, "/api/v1/questions?state=open&limit=1000", None)
            .await?;
        for question in open
            .get("questions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if question.get("state").and_then(Value::as_str) == Some("open")
                && let Some(number) = question.get("number").and_then(Value::as_str)
            {
                self.spawn_answer(number.to_owned()).await;
            }
        }
        Ok(())
    }

    async fn spawn_answer(self: &Arc<Self>, number: String) {
        let is_new = {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.len() < NOTES_MAX && taken.insert(number.clone())
        };
        if !is_new {
            return;
        }
        let Ok(permit) = Arc::clone(&self.answering).acquire_owned().await else {
            return;
        };
        let robot = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(what) = robot.answer(&number).await {
                note(&robot.notes, |notes| notes.failed(what.replace(&number, "HG-…")));
            }
            drop(permit);
        });
    }

    async fn answer(&self, number: &str) -> Result<(), String> {
        let (question, _) = self
            .reviewer
            .ask(Method::GET, &format!("/api/v1/questions/{number}"), None)
            .await?;
        let statement = question
            .get("statement")
            .and_then(Value::as_str)
            .unwrap_or_default();
        // Only the statements of this load are answered: somebody else's wait for a person.
        let number_behind = |sql: &String| {
            statement
                .strip_prefix(sql.as_str())
                .and_then(|rest| rest.trim().parse::<u64>().ok())
        };
        let Some(mine) = self.plan.held_sql.iter().find_map(number_behind) else {
            return Ok(());
        };
        tokio::time::sleep(self.plan.answer_after).await;
        let body = json!({ "approve": true, "reason": "load test", "digest": question.get("digest") });
        let (_, sent) = self
            .reviewer
            .ask(
                Method::POST,
                &format!("/api/v1/questions/{number}/answer"),
                Some(&body),
            )
            .await?;
        note(&self.notes, |notes| {
            if notes.answered.len() < NOTES_MAX {
                notes.answered.insert(mine, sent);
            }
        });
        Ok(())
    }

    async fn revoke(&self) {
        if self.plan.revokes_per_s <= 0.0 {
            return;
        }
        let mut every = tokio::time::interval(Duration::from_secs_f64(1.0 / self.plan.revokes_per_s));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut known, mut done) = (Vec::new(), HashSet::new());
        loop {
            every.tick().await;
            let one = self.revoke_one(&mut known, &mut done).await;
            if let Err(what) = one {
                note(&self.notes, |notes| notes.failed(what));
            }
        }
    }

    async fn revoke_one(
        &self,
        known: &mut Vec<(u64, String)>,
        done: &mut HashSet<u64>,
    ) -> Result<(), String> {
        if known.is_empty() {
            let (list, _) = self
                .admin
                .ask(Method::GET, "/api/v1/sessions?limit=100000", None)
                .await?;
            let victim = |session: &Value| {
                let application = session.pointer("/who/application")?.as_str()?;
                let number = application.strip_prefix(VICTIM)?.parse().ok()?;
                Some((number, session.get("session")?.as_str()?.to_owned()))
            };
            let sessions = list
                .get("sessions")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            known.extend(
                sessions
                    .filter_map(victim)
                    .filter(|(number, _)| !done.contains(number)),
            );
        }
        let Some((number, session)) = known.pop() else {
            return Ok(());
        };
        if done.len() >= NOTES_MAX {
            return Ok(());
        }
        done.insert(number);
        let body = json!({ "session": session, "reason": "load test" });
        let (_, sent) = self
            .admin
            .ask(Method::POST, "/api/v1/revocations", Some(&body))
            .await?;
        note(&self.notes, |notes| {
            notes.revoked.insert(number, sent);
        });
        Ok(())
    }
}
