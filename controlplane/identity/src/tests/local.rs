//! Local users: the right password, the wrong one, too many, and a user who is gone.

use super::*;
use crate::types::ChildRequest;
use headgate_plane::RefusalKind::BadCredential;
use std::time::Instant;

fn write_users(path: &Path, users: &[(&str, &str, &[&str])]) {
    let mut text = String::new();
    for (name, hash, groups) in users {
        text.push_str(&format!(
            "[[user]]\nname = \"{name}\"\npassword = \"{hash}\"\ngroups = {groups:?}\n"
        ));
    }
    // A new file each time, so that the change is seen even within one tick of the file system's clock.
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn hash(password: &str) -> String {
    crate::hash_password(&Secret::new(password)).unwrap()
}

fn local_gate(users: &[(&str, &str, &[&str])]) -> (tempfile::TempDir, Gate) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.toml");
    write_users(&path, users);
    let gate = gate(&[], Some(&Local { users: path }), QUICK);
    (dir, gate)
}

async fn login(gate: &Gate, user: &str, password: &str, address: &str) -> Result<Secret, IdentityError> {
    gate.identity
        .local_login(user, &Secret::new(password), address)
        .await
        .map(|(token, _)| token)
}

#[tokio::test]
async fn a_local_user_logs_in_and_loses_what_the_file_takes_away() {
    let alice = hash("correct horse");
    let (dir, gate) = local_gate(&[("alice", &alice, &["dba", "staff"])]);
    let token = login(&gate, "alice", "correct horse", "10.0.0.1").await.unwrap();
    let found = gate.identity.sign_in(&ask(&token, "orders")).await.unwrap();
    assert_eq!((found.who.issuer.as_str(), found.who.groups.len()), ("local", 2));
    let wish = ChildRequest {
        act_as: Some("agent".into()),
        ttl: Duration::from_secs(60),
        ..ChildRequest::default()
    };
    let (agent, _) = gate.identity.mint_child(&token, &wish).await.unwrap();

    write_users(
        &dir.path().join("users.toml"),
        &[("alice", &alice, &["staff", "new"])],
    );
    assert_eq!(
        gate.identity
            .sign_in(&ask(&token, "orders"))
            .await
            .unwrap()
            .who
            .groups,
        ["staff"]
    );
    assert_eq!(
        gate.identity
            .sign_in(&ask(&agent, "orders"))
            .await
            .unwrap()
            .who
            .groups,
        ["staff"]
    );
    write_users(&dir.path().join("users.toml"), &[]);
    refused(
        gate.identity.sign_in(&ask(&token, "orders")).await,
        BadCredential,
        "gone",
    );
    refused(
        gate.identity.sign_in(&ask(&agent, "orders")).await,
        BadCredential,
        "gone",
    );
}

#[tokio::test]
async fn an_unknown_user_is_as_slow_and_as_silent_as_a_wrong_password() {
    let alice = hash("right");
    let (_dir, gate) = local_gate(&[("alice", &alice, &[])]);
    let mut times = [Duration::MAX; 2];
    let mut words = Vec::new();
    for round in 0..4 {
        for (slot, user) in ["alice", "nobody"].into_iter().enumerate() {
            let began = Instant::now();
            let error = login(&gate, user, "wrong", &format!("10.0.0.{round}"))
                .await
                .unwrap_err();
            times[slot] = times[slot].min(began.elapsed());
            words.push(error.to_string());
        }
    }
    words.dedup();
    assert_eq!(words.len(), 1, "{words:?}");
    let [known, unknown] = times;
    // An answer without hashing would be a thousand times faster; the rest is the noise of a busy machine.
    assert!(
        unknown > known / 10 && known > unknown / 10,
        "known {known:?}, unknown {unknown:?}"
    );
}

#[tokio::test]
async fn guesses_are_limited_even_when_they_come_at_once() {
    let alice = hash("right");
    let (_dir, gate) = local_gate(&[("alice", &alice, &[])]);
    let tries = (0..20).map(|i| {
        let identity = gate.identity.clone();
        tokio::spawn(async move {
            identity
                .local_login("alice", &Secret::new(format!("guess {i}")), "10.0.0.1")
                .await
        })
    });
    let mut looked_at = 0;
    for tried in tries.collect::<Vec<_>>() {
        match tried.await.unwrap() {
            Err(IdentityError::TooMany { .. }) => {}
            Err(_) => looked_at += 1,
            Ok(_) => panic!("a guess was right"),
        }
    }
    assert_eq!(looked_at, 5);
    // Not even the right one now, from there; but from elsewhere, and later.
    assert!(login(&gate, "alice", "right", "10.0.0.1").await.is_err());
    assert!(login(&gate, "alice", "right", "10.0.0.2").await.is_ok());
    gate.clock.advance(Duration::from_secs(61));
    assert!(login(&gate, "alice", "right", "10.0.0.1").await.is_ok());
}

#[tokio::test]
async fn a_user_file_with_a_clear_password_or_a_twin_is_refused_without_showing_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.toml");
    let good = hash("x");
    let clear = "[[user]]\nname = \"alice\"\npassword = \"hunter2\"\n".to_owned();
    let twin = format!(
        "[[user]]\nname = \"a\"\npassword = \"{good}\"\n[[user]]\nname = \"a\"\npassword = \"{good}\"\n"
    );
    let broken = "[[user]]\nname = \"alice\"\npassword = \"hunter2\nx".to_owned();
    for (text, because) in [(clear, "no Argon2"), (twin, "twice"), (broken, "line 4")] {
        std::fs::write(&path, text).unwrap();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let Err(error) = Identity::start(&[], Some(&Local { users: path.clone() }), store) else {
            panic!("it was read")
        };
        let error = error.to_string();
        assert!(error.contains(because) && !error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_breaks_later_refuses_and_says_it_is_our_fault() {
    let alice = hash("right");
    let (dir, gate) = local_gate(&[("alice", &alice, &[])]);
    let token = login(&gate, "alice", "right", "10.0.0.1").await.unwrap();
    std::fs::write(dir.path().join("users.toml"), "[[user").unwrap();
    refused(
        gate.identity.sign_in(&ask(&token, "orders")).await,
        RefusalKind::Unavailable,
        "line 1",
    );
}
