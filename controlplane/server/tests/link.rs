//! The link, spoken over the real socket by a data plane that is none.

mod support;

use headgate_plane::{Answer, LINK_VERSION, RefusalKind, ToControl, ToData};
use serde_json::json;
use support::{Appliance, DataPlane, WAIT, hello, left, question, session_id};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_plane_gets_its_snapshot_and_every_new_one_and_a_bad_file_changes_nothing() {
    let gate = Appliance::start().await;
    let mut plane = gate.data_plane(1).await;
    let ToData::Snapshot(first) = plane.hear().await else {
        panic!("a snapshot follows the welcome")
    };
    assert_eq!((first.epoch.0, first.rules.len()), (1, 2));

    std::fs::write(gate.rules_file(), "[[rule]]\nnonsense = 1\n").unwrap();
    let (status, answer) = gate.admin("POST", "/api/v1/rules/reload", Some(json!({}))).await;
    assert_eq!((status, &answer["changed"]), (200, &json!(false)));
    assert_eq!(answer["status"]["epoch"], 1);
    assert!(!answer["status"]["problems"].as_array().unwrap().is_empty());

    // Found by the watcher, without being told.
    std::fs::write(gate.rules_file(), "").unwrap();
    let ToData::Snapshot(second) = plane.hear().await else {
        panic!("a new snapshot")
    };
    assert_eq!((second.epoch.0, second.rules.len()), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sign_in_grants_the_secret_and_names_each_refusal() {
    let gate = Appliance::start().await;
    let mut plane = gate.data_plane(1).await;
    let agent = gate.mint("alice", &["agents"], &["agent-1"]).await;
    let stranger = gate.mint("mallory", &["interns"], &[]).await;
    let refused = |message: ToData| match message {
        ToData::SignedIn {
            result: Err(refusal), ..
        } => refusal.kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(plane.sign_in(1, &agent, "orders").await),
        RefusalKind::Misconfigured,
        "the secret is not put yet"
    );
    let (status, _) = gate
        .admin(
            "PUT",
            "/api/v1/secrets/orders",
            Some(json!({ "value": "s3cret" })),
        )
        .await;
    assert_eq!(status, 200);
    assert_eq!(
        refused(plane.sign_in(2, "hgt_wrong", "orders").await),
        RefusalKind::BadCredential
    );
    assert_eq!(
        refused(plane.sign_in(3, &agent, "nowhere").await),
        RefusalKind::NoSuchTarget
    );
    assert_eq!(
        refused(plane.sign_in(4, &agent, "payroll").await),
        RefusalKind::NoSuchTarget,
        "no rule opens it"
    );
    assert_eq!(
        refused(plane.sign_in(5, &stranger, "orders").await),
        RefusalKind::NoSuchTarget
    );
    let ToData::SignedIn {
        result: Ok(grant), ..
    } = plane.sign_in(6, &agent, "orders").await
    else {
        panic!("a grant")
    };
    assert_eq!(
        (
            grant.target_secret.danger_reveal(),
            grant.target.name.as_str(),
            grant.epoch.0
        ),
        ("s3cret", "orders", 1)
    );
    let reader = grant
        .catalog_reader
        .as_ref()
        .map(|r| (r.user.as_str(), r.secret.danger_reveal()));
    assert_eq!(reader, Some(("catalog_reader", "s3cret")));
    assert_eq!(
        (grant.who.principal.as_str(), grant.who.actor()),
        ("alice", "agent-1")
    );
    assert!(grant.expires_unix_ms > headgate_api::now_unix_ms());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_is_asked_answered_over_the_api_and_found_again_after_a_restart() {
    let gate = Appliance::start().await;
    let mut plane = gate.data_plane(1).await;
    let (dba, alice) = (
        gate.mint("bob", &["dba"], &[]).await,
        gate.mint("alice", &["dba"], &[]).await,
    );
    let asked = question(session_id(1), 1, "DROP TABLE t");
    plane.say(&ToControl::Ask(Box::new(asked.clone()))).await;
    let ToData::Asked(told) = plane.hear_news().await else {
        panic!("a number")
    };
    assert!(
        told.address.ends_with(&format!("/questions/{}", told.number)),
        "{}",
        told.address
    );

    let path = format!("/api/v1/questions/{}", told.number);
    let answer = format!("{path}/answer");
    let (status, refused) = gate
        .api(Some(&alice), "POST", &answer, Some(json!({ "approve": true })))
        .await;
    assert_eq!((status, &refused["error"]["code"]), (403, &json!("own_question")));
    let (status, _) = gate
        .api(
            Some(&dba),
            "POST",
            &answer,
            Some(json!({ "approve": true, "digest": "00" })),
        )
        .await;
    assert_eq!(status, 409, "another digest than the one that was shown");
    let (_, shown) = gate.api(Some(&dba), "GET", &path, None).await;
    assert_eq!(
        (&shown["statement"], &shown["you_may_answer"]),
        (&json!("DROP TABLE t"), &json!(true))
    );
    let (status, _) = gate
        .api(
            Some(&dba),
            "POST",
            &answer,
            Some(json!({ "approve": true, "digest": shown["digest"] })),
        )
        .await;
    assert_eq!(status, 200);
    let expected = Answer::Approved {
        reviewers: vec!["bob".into()],
        digest: asked.digest,
    };
    assert!(
        matches!(plane.hear_news().await, ToData::Answer { key, answer } if key == asked.key && answer == expected)
    );

    // The control plane ends and comes back; the same data plane asks again and hears the same.
    drop(plane);
    let gate = Appliance::start_with(gate.stop().await, support::RULES).await;
    let mut plane = gate.data_plane(1).await;
    plane.say(&ToControl::Ask(Box::new(asked.clone()))).await;
    assert!(matches!(plane.hear_news().await, ToData::Asked(again) if again.number == told.number));
    assert!(matches!(plane.hear_news().await, ToData::Answer { answer, .. } if answer == expected));
    plane.say(&ToControl::Spent { key: asked.key }).await;
    let second = question(session_id(2), 1, "DROP TABLE u");
    plane.say(&ToControl::Ask(Box::new(second))).await;
    assert!(matches!(plane.hear_news().await, ToData::Asked(next) if next.number.0 == told.number.0 + 1));
    let (_, shown) = gate.admin("GET", &path, None).await;
    assert_eq!(shown["state"], "spent");
}

/// What a statement that does not wait is told.
async fn told(plane: &mut DataPlane, asked: &headgate_plane::Question) -> (u64, Answer) {
    plane.say(&ToControl::Ask(Box::new(asked.clone()))).await;
    let ToData::Asked(told) = plane.hear_news().await else {
        panic!("a number")
    };
    let ToData::Answer { key, answer } = plane.hear_news().await else {
        panic!("an answer right behind it")
    };
    assert_eq!((told.key, key), (asked.key, asked.key));
    (told.number.0, answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_does_not_wait_spends_its_approval_later_over_restarts_of_both_planes_and_once() {
    let gate = Appliance::start().await;
    let mut plane = gate.data_plane(1).await;
    let dba = gate.mint("bob", &["dba"], &[]).await;
    let (first, answer) = told(&mut plane, &left(session_id(1), 1, "DROP TABLE t")).await;
    assert_eq!(answer, Answer::NotYet);
    let again = told(&mut plane, &left(session_id(2), 1, "DROP TABLE t")).await;
    assert_eq!(again, (first, Answer::NotYet));
    let why = headgate_plane::Withdrawal::ClientGone;
    let key = left(session_id(2), 1, "DROP TABLE t").key;
    plane.say(&ToControl::Withdraw { key, why }).await;
    let (other, _) = told(&mut plane, &left(session_id(2), 2, "DROP TABLE u")).await;
    assert_ne!(other, first);

    // Both planes end; the yes comes while no data plane is there.
    drop(plane);
    let gate = Appliance::start_with(gate.stop().await, support::RULES).await;
    let path = format!("/api/v1/questions/HG-{first}");
    let (_, shown) = gate.api(Some(&dba), "GET", &path, None).await;
    assert_eq!(
        (&shown["state"], &shown["on_hold"]),
        (&json!("open"), &json!("refuse"))
    );
    let yes = json!({ "approve": true, "digest": shown["digest"] });
    let (status, _) = gate
        .api(Some(&dba), "POST", &format!("{path}/answer"), Some(yes))
        .await;
    assert_eq!(status, 200);
    let mut plane = gate.data_plane(2).await;
    let spender = left(session_id(3), 1, "DROP TABLE t");
    let (number, answer) = told(&mut plane, &spender).await;
    assert_eq!(number, first);
    assert!(matches!(answer, Answer::Approved { digest, .. } if digest == spender.digest));
    let (third, answer) = told(&mut plane, &left(session_id(4), 1, "DROP TABLE t")).await;
    assert!(third > other, "claimed, it is nobody else's");
    assert_eq!(answer, Answer::NotYet);

    // The data plane is lost before it says that it has sent it.
    drop(plane);
    let mut plane = gate.data_plane(3).await;
    let (number, answer) = told(&mut plane, &left(session_id(5), 1, "DROP TABLE t")).await;
    assert_eq!((number, answer), (third, Answer::NotYet));
    let (_, shown) = gate.admin("GET", &path, None).await;
    assert_eq!(
        (&shown["state"], &shown["claim"]["in_doubt"]),
        (&json!("spent"), &json!(true))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_rules_end_an_approval_that_nobody_waits_for() {
    let gate = Appliance::start().await;
    let mut plane = gate.data_plane(1).await;
    let dba = gate.mint("bob", &["dba"], &[]).await;
    let (number, _) = told(&mut plane, &left(session_id(1), 1, "DROP TABLE t")).await;
    let path = format!("/api/v1/questions/HG-{number}");
    let (status, _) = gate
        .api(
            Some(&dba),
            "POST",
            &format!("{path}/answer"),
            Some(json!({ "approve": true })),
        )
        .await;
    assert_eq!(status, 200);
    std::fs::write(gate.rules_file(), format!("{}\n# changed\n", support::RULES)).unwrap();
    let (_, reloaded) = gate.admin("POST", "/api/v1/rules/reload", Some(json!({}))).await;
    assert_eq!(reloaded["status"]["epoch"], 2);
    // A data plane that has not heard of the new rules, and one that has.
    plane
        .say(&ToControl::Ask(Box::new(left(session_id(2), 1, "DROP TABLE t"))))
        .await;
    assert!(matches!(
        plane.hear_news().await,
        ToData::Answer { answer: Answer::Denied { reason, .. }, .. } if reason.contains("send the statement again")
    ));
    let mut anew = left(session_id(2), 2, "DROP TABLE t");
    anew.epoch = headgate_plane::Epoch(2);
    support::seal(&mut anew);
    let (next, answer) = told(&mut plane, &anew).await;
    assert_ne!(next, number);
    assert_eq!(answer, Answer::NotYet);
    let (_, shown) = gate.admin("GET", &path, None).await;
    assert_eq!(
        (&shown["state"], &shown["withdrawn"]),
        (&json!("withdrawn"), &json!("Rejudged"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_with_a_false_digest_is_denied() {
    let gate = Appliance::start().await;
    let mut plane = gate.data_plane(1).await;
    let mut false_one = question(session_id(1), 1, "SELECT 1");
    false_one.statement = b"DROP TABLE t".to_vec();
    plane.say(&ToControl::Ask(Box::new(false_one))).await;
    assert!(matches!(
        plane.hear_news().await,
        ToData::Answer {
            answer: Answer::Denied { .. },
            ..
        }
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoking_a_token_ends_its_sessions_even_one_that_is_told_of_later() {
    let gate = Appliance::start().await;
    let (status, _) = gate
        .admin("PUT", "/api/v1/secrets/orders", Some(json!({ "value": "x" })))
        .await;
    assert_eq!(status, 200);
    let mut plane = gate.data_plane(1).await;
    let token = gate.mint("alice", &["agents"], &[]).await;
    let ToData::SignedIn {
        session,
        result: Ok(grant),
    } = plane.sign_in(1, &token, "orders").await
    else {
        panic!("a grant")
    };
    let opened = |session| ToControl::SessionOpened {
        session,
        who: grant.who.clone(),
        target: "orders".into(),
        credential_id: grant.credential_id.clone(),
        started_unix_ms: 1,
    };
    plane.say(&opened(session)).await;
    let late = session_id(99);
    // Sessions are listed soon; the API does not wait for the link.
    let listed = async {
        loop {
            let (_, answer) = gate.admin("GET", "/api/v1/sessions", None).await;
            if answer["count"] == 1 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT, listed)
        .await
        .expect("the session is listed");
    let (status, answer) = gate
        .admin(
            "POST",
            "/api/v1/revocations",
            Some(json!({ "token": grant.credential_id })),
        )
        .await;
    assert_eq!((status, &answer["sessions_ended"]), (200, &json!(1)), "{answer}");
    assert!(matches!(plane.hear_news().await, ToData::Revoke { sessions, .. } if sessions == vec![session]));
    plane.say(&opened(late)).await;
    loop {
        // The first may be told twice: by the call and by the watcher.
        if let ToData::Revoke { sessions, .. } = plane.hear_news().await
            && sessions == vec![late]
        {
            break;
        }
    }
    assert!(matches!(
        plane.sign_in(2, &token, "orders").await,
        ToData::SignedIn { result: Err(_), .. } | ToData::Revoke { .. }
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_or_no_hello_ends_the_link_and_nonsense_ends_it_too() {
    let gate = Appliance::start().await;
    let mut other = DataPlane::connect(&gate.ready.link_socket).await;
    let ToControl::Hello {
        appliance,
        boot,
        epoch,
        ..
    } = hello(1)
    else {
        unreachable!()
    };
    other
        .say(&ToControl::Hello {
            version: LINK_VERSION + 1,
            appliance,
            boot,
            epoch,
        })
        .await;
    assert!(matches!(
        other.hear().await,
        ToData::Welcome {
            version: LINK_VERSION
        }
    ));
    assert!(tokio::time::timeout(WAIT, other.next()).await.unwrap().is_none());

    let mut rude = DataPlane::connect(&gate.ready.link_socket).await;
    rude.say(&ToControl::Metrics { values: vec![] }).await;
    assert!(tokio::time::timeout(WAIT, rude.next()).await.unwrap().is_none());

    let mut plane = gate.data_plane(1).await;
    assert!(matches!(plane.hear().await, ToData::Snapshot(_)));
    let (status, _) = gate.api(None, "GET", "/readyz", None).await;
    assert_eq!(status, 200, "the others' end is none of its business");
}
