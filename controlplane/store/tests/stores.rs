//! Both stores do the same; the one on disk also after a restart, and after being killed.

use headgate_store::{
    Batch, Entry, Expected, KEY_BYTES_MAX, MemoryStore, RocksStore, Store, StoreError, StoreJson, Table,
    VALUE_BYTES_MAX,
};
use std::process::Command;
use std::sync::Arc;

fn with_both(test: impl Fn(&dyn Store)) {
    test(&MemoryStore::new());
    let dir = tempfile::tempdir().unwrap();
    test(&RocksStore::open(dir.path()).unwrap());
}

fn keys(entries: &[Entry]) -> Vec<&[u8]> {
    entries.iter().map(|entry| entry.key.as_slice()).collect()
}

#[test]
fn a_value_reads_back_with_the_revision_that_wrote_it() {
    with_both(|store| {
        assert_eq!(store.get(Table::Tokens, b"k").unwrap(), None);
        let first = store.put(Table::Tokens, b"k", b"").unwrap();
        let second = store.put(Table::Tokens, b"k", b"two").unwrap();
        assert!(second > first);
        let found = store.get(Table::Tokens, b"k").unwrap().unwrap();
        assert_eq!(
            (found.revision, found.value.as_slice()),
            (second, b"two".as_slice())
        );
        assert_eq!(store.get(Table::Secrets, b"k").unwrap(), None, "tables are apart");
        store.delete(Table::Tokens, b"k").unwrap();
        store.delete(Table::Tokens, b"k").unwrap();
        assert_eq!(store.get(Table::Tokens, b"k").unwrap(), None);
    });
}

#[test]
fn a_scan_stays_inside_its_prefix_and_goes_on_after_a_key() {
    with_both(|store| {
        for key in [b"a".as_slice(), b"b", b"b\0", b"b1", b"b2", b"b\xff", b"c"] {
            store.put(Table::Meta, key, key).unwrap();
        }
        store.put(Table::Tokens, b"b9", b"other table").unwrap();
        let all = store.scan(Table::Meta, b"b", 100).unwrap();
        assert_eq!(keys(&all), [b"b".as_slice(), b"b\0", b"b1", b"b2", b"b\xff"]);
        let page = store.scan(Table::Meta, b"b", 2).unwrap();
        let rest = store
            .scan_after(Table::Meta, b"b", Some(&page[1].key), 100)
            .unwrap();
        assert_eq!(keys(&rest), [b"b1".as_slice(), b"b2", b"b\xff"]);
        assert_eq!(
            keys(&store.scan_after(Table::Meta, b"b", Some(b"a"), 1).unwrap()),
            [b"b".as_slice()]
        );
        assert_eq!(
            keys(&store.scan_after(Table::Meta, b"b", Some(b"b0"), 1).unwrap()),
            [b"b1".as_slice()]
        );
        assert!(
            store
                .scan_after(Table::Meta, b"b", Some(b"c"), 100)
                .unwrap()
                .is_empty()
        );
        assert_eq!(store.scan(Table::Meta, b"", 100).unwrap().len(), 7);
        assert!(store.scan(Table::Meta, b"", 0).unwrap().is_empty());
    });
}

#[test]
fn a_condition_that_is_not_met_changes_nothing() {
    with_both(|store| {
        let revision = store.put_if(Table::Grants, b"g", Expected::Absent, b"1").unwrap();
        let conflict = store
            .put_if(Table::Grants, b"g", Expected::Absent, b"2")
            .unwrap_err();
        assert_eq!(
            conflict,
            StoreError::Conflict {
                table: Table::Grants,
                key: b"g".to_vec(),
                found: Some(revision)
            }
        );
        let batch = Batch::new()
            .put(Table::Questions, b"q", b"new")
            .delete(Table::Grants, b"g")
            .require(Table::Grants, b"g", Expected::Revision(revision + 1));
        assert!(matches!(store.write(batch), Err(StoreError::Conflict { .. })));
        assert_eq!(store.get(Table::Questions, b"q").unwrap(), None);
        assert_eq!(store.get(Table::Grants, b"g").unwrap().unwrap().value, b"1");

        let batch = Batch::new()
            .require(Table::Grants, b"g", Expected::Revision(revision))
            .delete(Table::Grants, b"g")
            .put(Table::Questions, b"q", b"new");
        let revision = store.write(batch).unwrap();
        assert_eq!(store.get(Table::Grants, b"g").unwrap(), None);
        assert_eq!(
            store.get(Table::Questions, b"q").unwrap().unwrap().revision,
            revision
        );
        assert!(matches!(
            store.put_if(Table::Grants, b"g", Expected::Revision(1), b""),
            Err(StoreError::Conflict { found: None, .. })
        ));
    });
}

#[test]
fn the_later_change_of_one_key_in_a_batch_wins() {
    with_both(|store| {
        let batch = Batch::new()
            .put(Table::Meta, b"k", b"1")
            .delete(Table::Meta, b"k")
            .put(Table::Meta, b"k", b"2");
        store.write(batch).unwrap();
        assert_eq!(store.get(Table::Meta, b"k").unwrap().unwrap().value, b"2");
        store
            .write(
                Batch::new()
                    .put(Table::Meta, b"k", b"3")
                    .delete(Table::Meta, b"k"),
            )
            .unwrap();
        assert_eq!(store.get(Table::Meta, b"k").unwrap(), None);
    });
}

#[test]
fn of_many_who_spend_the_same_thing_exactly_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn Store>; 2] = [
        Arc::new(MemoryStore::new()),
        Arc::new(RocksStore::open(dir.path()).unwrap()),
    ];
    for store in stores {
        let revision = store.put(Table::Questions, b"approval", b"unspent").unwrap();
        let spenders = (0..8).map(|i| {
            let store = store.clone();
            std::thread::spawn(move || {
                store
                    .put_if(
                        Table::Questions,
                        b"approval",
                        Expected::Revision(revision),
                        format!("spent by {i}").as_bytes(),
                    )
                    .is_ok()
            })
        });
        let spent = spenders
            .collect::<Vec<_>>()
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .filter(|ok| *ok)
            .count();
        assert_eq!(spent, 1);
    }
}

#[test]
fn keys_and_values_beyond_their_bounds_are_refused_whole() {
    with_both(|store| {
        assert!(matches!(
            store.put(Table::Meta, b"", b""),
            Err(StoreError::KeyLength { bytes: 0 })
        ));
        let long = vec![b'k'; KEY_BYTES_MAX + 1];
        assert!(matches!(
            store.put(Table::Meta, &long, b""),
            Err(StoreError::KeyLength { .. })
        ));
        let batch = Batch::new().put(Table::Meta, b"fine", b"").put(
            Table::Meta,
            b"big",
            vec![0; VALUE_BYTES_MAX + 1],
        );
        assert!(matches!(store.write(batch), Err(StoreError::ValueTooLong { .. })));
        assert_eq!(store.get(Table::Meta, b"fine").unwrap(), None);
    });
}

#[test]
fn json_that_does_not_fit_is_named_and_not_invented() {
    with_both(|store| {
        store.put_json(Table::Rules, b"r", &vec![1u8, 2]).unwrap();
        assert_eq!(
            store.get_json::<Vec<u8>>(Table::Rules, b"r").unwrap().unwrap().1,
            [1, 2]
        );
        assert!(matches!(
            store.get_json::<String>(Table::Rules, b"r"),
            Err(StoreError::Malformed {
                table: Table::Rules,
                ..
            })
        ));
    });
}

#[test]
fn revisions_go_on_after_a_restart_and_a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(dir.path()).unwrap();
    store.put(Table::Tokens, b"kept", b"v").unwrap();
    store.put(Table::Tokens, b"gone", b"v").unwrap();
    store.delete(Table::Tokens, b"gone").unwrap();
    let last = store.put(Table::Tokens, b"last", b"v").unwrap();
    assert!(matches!(RocksStore::open(dir.path()), Err(StoreError::Io { .. })));
    drop(store);
    let store = RocksStore::open(dir.path()).unwrap();
    assert_eq!(
        keys(&store.scan(Table::Tokens, b"", 10).unwrap()),
        [b"kept".as_slice(), b"last"]
    );
    assert!(store.put(Table::Meta, b"next", b"v").unwrap() > last);
}

/// Run as a process of its own by the test below.
#[test]
fn writer_that_is_killed() {
    let Ok(dir) = std::env::var("STORE_OF_THE_KILLED") else {
        return;
    };
    let store = RocksStore::open(dir).unwrap();
    for i in 0u32.. {
        let batch =
            Batch::new()
                .put(Table::Tokens, i.to_be_bytes(), b"t")
                .put(Table::Grants, i.to_be_bytes(), b"g");
        store.write(batch).unwrap();
        println!("\nwritten {i}");
    }
}

#[test]
fn what_was_acknowledged_outlives_a_kill_and_batches_are_whole() {
    use std::io::BufRead;
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_that_is_killed", "--nocapture"])
        .env("STORE_OF_THE_KILLED", dir.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let written = lines
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("written ")?.parse::<u32>().ok());
    let acknowledged = written.take_while(|i| *i <= 200).last().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let store = RocksStore::open(dir.path()).unwrap();
    let (tokens, grants) = (
        store.scan(Table::Tokens, b"", 100_000).unwrap(),
        store.scan(Table::Grants, b"", 100_000).unwrap(),
    );
    assert!(
        tokens.len() > usize::try_from(acknowledged).unwrap(),
        "{} of {acknowledged}",
        tokens.len()
    );
    assert_eq!(keys(&tokens), keys(&grants), "a batch was torn");
}
