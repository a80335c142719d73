//! The pool with the real worker binary, and with programs that behave badly in its place.

use headgate_analyst::{AnalystPool, Caps, Facts, Language, PoolSettings, Unreadable};
use headgate_plane::Class;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

fn config(program: &str, args: &[&str]) -> PoolSettings {
    PoolSettings {
        workers: 1,
        program: program.into(),
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        answer_ms_max: 2_000,
        queue_max: 256,
        queue_per_owner_max: 256,
        caps: Caps::DEFAULT,
    }
}

fn real() -> PoolSettings {
    config(env!("CARGO_BIN_EXE_headgate-analyst"), &[])
}

fn ask(pool: &AnalystPool, text: impl Into<Vec<u8>>) -> Receiver<Result<Facts, Unreadable>> {
    let (sender, receiver) = channel();
    pool.submit(
        1,
        Language::Postgres,
        text.into(),
        Box::new(move |answer| drop(sender.send(answer))),
    );
    receiver
}

fn answer(pool: &AnalystPool, text: impl Into<Vec<u8>>) -> Result<Facts, Unreadable> {
    ask(pool, text).recv_timeout(PATIENCE).expect("an answer in time")
}

fn signal(pid: u32, name: &str) {
    assert!(
        Command::new("kill")
            .args([name, &pid.to_string()])
            .status()
            .expect("kill runs")
            .success()
    );
}

/// Stops a worker, and returns when all its threads stand still.
fn stop(pid: u32) {
    signal(pid, "-STOP");
    let start = Instant::now();
    let stands = |task: std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("status")).is_ok_and(|status| status.contains("State:\tT"))
    };
    while !std::fs::read_dir(format!("/proc/{pid}/task"))
        .expect("tasks")
        .all(|task| task.is_ok_and(stands))
    {
        assert!(start.elapsed() < PATIENCE, "it does not stop");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_statement_comes_back_as_facts() {
    let pool = AnalystPool::start(real()).expect("a pool");
    let facts = answer(&pool, "delete from public.orders").expect("facts");
    assert_eq!(facts.statements.len(), 1);
    assert!(facts.class().contains(Class::Write));
    assert!(!facts.statements[0].has_where);
    assert!(matches!(answer(&pool, "selec 1"), Err(Unreadable::Syntax { .. })));
    assert_eq!(answer(&pool, b"select '\xff'".to_vec()), Err(Unreadable::NotUtf8));
}

#[test]
fn every_thread_of_a_worker_is_in_the_sandbox() {
    let pool = AnalystPool::start(real()).expect("a pool");
    assert!(answer(&pool, "select 1").is_ok());
    let tasks = format!("/proc/{}/task", pool.worker_pids()[0]);
    let mut threads = 0;
    for task in std::fs::read_dir(tasks).expect("tasks") {
        let status = std::fs::read_to_string(task.expect("a task").path().join("status")).expect("status");
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        assert_eq!(field("Seccomp:"), Some("2"));
        assert_eq!(field("NoNewPrivs:"), Some("1"));
        threads += 1;
    }
    assert_eq!(threads, 2);
}

#[test]
fn hostile_statements_are_refused_or_answered_by_a_worker_that_lives() {
    let pool = AnalystPool::start(real()).expect("a pool");
    assert!(answer(&pool, "select 1").is_ok());
    let before = pool.worker_pids();
    let caps_off = [
        format!("select {}1", "not ".repeat(9_000)),
        format!("select 1{}", "+1".repeat(4_900)),
        format!("select 1{}", " union select 1".repeat(3_000)),
        format!("select {}1{}", "(".repeat(199), ")".repeat(199)),
        format!(
            "select {}1{}",
            "case when true then ".repeat(2_000),
            " end".repeat(2_000)
        ),
        format!("select {}1", "- ".repeat(9_000)),
        format!("select a{} from t", "[1]".repeat(3_000)),
        format!("select a from t where {}", vec!["b = 1"; 2_400].join(" or ")),
        format!("select * from t{}", " join u using (a)".repeat(1_500)),
        format!("select '{}'", "x".repeat(200_000)),
        format!("select \"{}\" from t", "x".repeat(200_000)),
        "select averyveryveryveryveryveryveryveryveryveryveryveryveryverylongname1, ".repeat(2_000) + "1",
        format!("insert into t values {}", vec!["(1, 'a')"; 6_000].join(", ")),
        format!("{}{}", "/*".repeat(100_000), "*/".repeat(100_000)),
        format!("{}select 1", "/**/".repeat(60_000)),
        format!("select {}1", "+".repeat(200_000)),
        "(".repeat(200_000),
        "select 1;".repeat(9_000),
        "$a$".repeat(60_000),
    ];
    for text in caps_off {
        let start = Instant::now();
        let result = answer(&pool, text.clone());
        let head: String = text.chars().take(60).collect();
        assert_ne!(
            result,
            Err(Unreadable::AnalystLost),
            "{head} … ({} bytes)",
            text.len()
        );
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{head}: {:?}",
            start.elapsed()
        );
    }
    assert_eq!(pool.worker_pids(), before, "the worker died of one of them");
}

#[test]
fn what_orms_send_is_read_up_to_the_longest_text() {
    let pool = AnalystPool::start(real()).expect("a pool");
    let pid = pool.worker_pids()[0];
    let row = "('some name', 12345, 'a@b.example', true, NULL, 1.50, '2026-11-30')";
    let parameters: Vec<String> = (1..=60_000).map(|n| format!("${n}")).collect();
    let when = |n: usize| {
        (0..n)
            .map(|n| format!("WHEN (\"t\".\"id\" = {n}) THEN 'v{n}'"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    for text in [
        format!(
            "INSERT INTO t (a, b, c, d, e, f, g) VALUES {}",
            vec![row; 5_800].join(", ")
        ),
        format!(
            "insert into t values {}",
            parameters
                .chunks(6)
                .map(|c| format!("({})", c.join(",")))
                .collect::<Vec<_>>()
                .join(",")
        ),
        format!(
            "UPDATE t SET a = CASE {} ELSE NULL END WHERE id IN (1, 2)",
            when(1_667)
        ),
        format!(
            "select 1 from t where {}",
            vec!["(a = 1 and b = 2)"; 2_500].join(" or ")
        ),
        format!(
            "INSERT INTO t VALUES {}",
            vec![row; ((4 << 20) - 100) / (row.len() + 2)].join(", ")
        ),
    ] {
        let (bytes, facts) = (text.len(), answer(&pool, text));
        assert_eq!(facts.map(|f| f.statements.len()), Ok(1), "{bytes} bytes");
    }
    assert_eq!(
        answer(&pool, " ".repeat((4 << 20) + 1)),
        Err(Unreadable::TooLong {
            bytes: (4 << 20) + 1,
            max: 4 << 20
        })
    );
    assert_eq!(pool.worker_pids()[0], pid, "no worker was lost");
}

#[test]
fn texts_that_wait_are_bounded_in_bytes() {
    let pool = AnalystPool::start(PoolSettings {
        answer_ms_max: 500,
        ..config("/bin/sleep", &["60"])
    })
    .expect("a pool");
    // 64 MiB wait, and one may be with the worker that never answers.
    let waiting: Vec<_> = (0..20).map(|_| ask(&pool, vec![b' '; 4 << 20])).collect();
    let refused = waiting
        .iter()
        .filter(|a| a.try_recv() == Ok(Err(Unreadable::AnalystLost)))
        .count();
    assert!(
        (3..=4).contains(&refused),
        "{refused} were answered before submit returned"
    );
    // Another caller's finds room: whoever has most gives way.
    let (sender, other) = channel();
    pool.submit(
        2,
        Language::Postgres,
        b" ".to_vec(),
        Box::new(move |answer| drop(sender.send(answer))),
    );
    assert_eq!(other.try_recv().ok(), None);
    assert_eq!(pool.refused(), refused as u64 + 1);
    drop(waiting);
}

#[test]
fn a_worker_killed_in_the_middle_costs_one_statement() {
    let pool = AnalystPool::start(real()).expect("a pool");
    assert!(answer(&pool, "select 1").is_ok());
    let pid = pool.worker_pids()[0];
    stop(pid);
    let lost = ask(&pool, "select 2");
    std::thread::sleep(Duration::from_millis(100));
    signal(pid, "-KILL");
    assert_eq!(
        lost.recv_timeout(PATIENCE).expect("an answer"),
        Err(Unreadable::AnalystLost)
    );
    assert!(answer(&pool, "select 3").is_ok());
    assert_ne!(pool.worker_pids()[0], pid);
}

#[test]
fn a_worker_that_stops_is_killed_at_its_limit() {
    let pool = AnalystPool::start(PoolSettings {
        answer_ms_max: 300,
        ..real()
    })
    .expect("a pool");
    assert!(answer(&pool, "select 1").is_ok());
    let pid = pool.worker_pids()[0];
    stop(pid);
    let start = Instant::now();
    assert_eq!(answer(&pool, "select 2"), Err(Unreadable::AnalystLost));
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(answer(&pool, "select 3").is_ok());
    assert!(
        !std::path::Path::new(&format!("/proc/{pid}")).exists(),
        "the silent worker is still there"
    );
}

#[test]
fn silent_dead_and_babbling_programs_answer_nothing() {
    for (program, args) in [
        ("/bin/sleep", &["60"][..]),
        ("/bin/true", &[]),
        (
            "/bin/sh",
            &["-c", "while :; do echo aaaaaaaaaaaaaaaaaaaa >&0; done"],
        ),
    ] {
        let pool = AnalystPool::start(PoolSettings {
            answer_ms_max: 300,
            ..config(program, args)
        })
        .expect("a pool");
        for _ in 0..2 {
            assert_eq!(
                answer(&pool, "select 1"),
                Err(Unreadable::AnalystLost),
                "{program}"
            );
        }
    }
    assert!(AnalystPool::start(config("/nonexistent/analyst", &[])).is_err());
}

#[test]
fn a_full_queue_answers_at_once() {
    let pool = AnalystPool::start(PoolSettings {
        queue_max: 2,
        answer_ms_max: 500,
        ..config("/bin/sleep", &["60"])
    })
    .expect("a pool");
    let start = Instant::now();
    let answers: Vec<_> = (0..50).map(|_| ask(&pool, "select 1")).collect();
    assert!(start.elapsed() < Duration::from_millis(400), "submit waited");
    let at_once = answers
        .iter()
        .filter(|a| a.try_recv() == Ok(Err(Unreadable::AnalystLost)))
        .count();
    assert!(at_once >= 47, "{at_once}");
}

#[test]
fn a_caller_with_one_text_is_answered_before_the_hundred_of_another() {
    let pool = AnalystPool::start(PoolSettings {
        answer_ms_max: 60_000,
        ..real()
    })
    .expect("a pool");
    assert!(answer(&pool, "select 1").is_ok());
    let pid = pool.worker_pids()[0];
    // It stands still until all have asked; then the order of answers is the queue's.
    stop(pid);
    let (sender, order) = channel();
    let submit = |owner: u64| {
        let sender = sender.clone();
        pool.submit(
            owner,
            Language::Postgres,
            b"select 1".to_vec(),
            Box::new(move |answer| sender.send((owner, answer.is_ok())).expect("the test listens")),
        );
    };
    (0..100).for_each(|_| submit(1));
    submit(2);
    submit(3);
    signal(pid, "-CONT");
    let answered: Vec<(u64, bool)> = (0..102)
        .map(|_| order.recv_timeout(PATIENCE).expect("an answer"))
        .collect();
    assert!(answered.iter().all(|(_, fine)| *fine));
    let place = |owner: u64| answered.iter().position(|(o, _)| *o == owner).expect("answered");
    // One may be with the worker already, and one of each other comes before.
    assert!(place(2) <= 2 && place(3) <= 3, "{:?}", &answered[..8]);
}

#[test]
fn what_one_caller_may_not_have_waiting_is_answered_at_once_and_another_is_served() {
    let pool = AnalystPool::start(PoolSettings {
        queue_per_owner_max: 8,
        answer_ms_max: 60_000,
        ..real()
    })
    .expect("a pool");
    assert!(answer(&pool, "select 1").is_ok());
    let pid = pool.worker_pids()[0];
    stop(pid);
    let mine: Vec<_> = (0..50).map(|_| ask(&pool, "select 1")).collect();
    let (sender, other) = channel();
    pool.submit(
        2,
        Language::Postgres,
        b"select 2".to_vec(),
        Box::new(move |answer| drop(sender.send(answer))),
    );
    let at_once = mine
        .iter()
        .filter(|a| a.try_recv() == Ok(Err(Unreadable::AnalystLost)))
        .count();
    // One may be with the worker.
    assert!((41..=42).contains(&at_once), "{at_once}");
    assert_eq!(pool.refused(), at_once as u64);
    assert_eq!(other.try_recv().ok(), None);
    signal(pid, "-CONT");
    assert!(other.recv_timeout(PATIENCE).expect("an answer").is_ok());
}

#[test]
fn a_pool_that_ends_leaves_no_text_unanswered() {
    let pool = AnalystPool::start(PoolSettings {
        answer_ms_max: 200,
        ..config("/bin/sleep", &["60"])
    })
    .expect("a pool");
    let answers: Vec<_> = (0..20).map(|_| ask(&pool, "select 1")).collect();
    drop(pool);
    for answer in answers {
        assert_eq!(answer.try_recv(), Ok(Err(Unreadable::AnalystLost)));
    }
}

#[test]
fn many_threads_get_their_own_answers() {
    let pool = AnalystPool::start(PoolSettings {
        workers: 2,
        queue_max: 4096,
        queue_per_owner_max: 4096,
        answer_ms_max: 10_000,
        ..real()
    })
    .expect("a pool");
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..500 {
                    let name = format!("t_{thread}_{round}");
                    let facts =
                        answer(pool, format!("select a, b from {name} where id = $1")).expect("facts");
                    assert_eq!(facts.statements[0].relations[0].name, name);
                }
            });
        }
    });
    let per_second = 2_000.0 / start.elapsed().as_secs_f64();
    println!("{per_second:.0} statements a second through two workers");
    assert!(per_second > 500.0, "{per_second}");
}

#[test]
fn a_worker_is_replaced_in_time_and_nothing_is_lost() {
    let pool = AnalystPool::start(PoolSettings {
        queue_max: 32_000,
        queue_per_owner_max: 32_000,
        answer_ms_max: 60_000,
        ..real()
    })
    .expect("a pool");
    let before = pool.worker_pids();
    let answers: Vec<_> = (0..20_100).map(|_| ask(&pool, "select 1")).collect();
    for answer in answers {
        assert!(answer.recv_timeout(PATIENCE).expect("an answer").is_ok());
    }
    assert_ne!(pool.worker_pids(), before);
}
