//! Secrets against the store on disk: nothing clear in its files, and nothing opens that was touched.

use headgate_plane::Secret;
use headgate_secrets::{SECRET_BYTES_MAX, Secrets, SecretsError};
use headgate_store::{MemoryStore, RocksStore, Store, Table};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

const CLEAR: &str = "correct-horse-battery-staple-81f7";

fn files_holding(folder: &Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_holding(&path, needle));
        } else if std::fs::read(&path)
            .unwrap()
            .windows(needle.len())
            .any(|window| window == needle)
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn no_file_of_the_store_holds_a_clear_secret() {
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("master.key");
    let data = dir.path().join("store");
    for round in 0..3 {
        // Opened again each time, so that the log and the tables are both on disk.
        let store = Arc::new(RocksStore::open(&data).unwrap());
        // A canary, to know that the search would find it.
        store.put(Table::Meta, b"canary", b"clear-canary-text").unwrap();
        let secrets = Secrets::open(store, &key_file).unwrap();
        secrets
            .put(&format!("orders-{round}"), &Secret::new(CLEAR))
            .unwrap();
        assert_eq!(secrets.get("orders-0").unwrap().unwrap().danger_reveal(), CLEAR);
    }
    assert!(!files_holding(&data, b"clear-canary-text").is_empty());
    assert_eq!(files_holding(&data, CLEAR.as_bytes()), Vec::<String>::new());
    // Nor a piece of it, nor its base64.
    assert_eq!(
        files_holding(&data, &CLEAR.as_bytes()[8..24]),
        Vec::<String>::new()
    );
    assert_eq!(
        files_holding(&data, b"Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5"),
        Vec::<String>::new()
    );
    // Nor the master key.
    let key = std::fs::read_to_string(&key_file).unwrap();
    assert_eq!(files_holding(&data, key.trim().as_bytes()), Vec::<String>::new());
}

fn in_memory() -> (tempfile::TempDir, Arc<MemoryStore>, Secrets) {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(MemoryStore::new());
    let secrets = Secrets::open(store.clone(), dir.path().join("key")).unwrap();
    (dir, store, secrets)
}

#[test]
fn a_secret_is_put_replaced_listed_and_deleted() {
    let (_dir, _, secrets) = in_memory();
    assert!(secrets.get("orders").unwrap().is_none() && secrets.get("").unwrap().is_none());
    let first = secrets.put("orders", &Secret::new("one")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(3));
    let second = secrets.put("orders", &Secret::new("two")).unwrap();
    assert_eq!(first.created_unix_ms, second.created_unix_ms);
    assert!(second.updated_unix_ms > first.updated_unix_ms);
    secrets.put("billing", &Secret::new("päss wörd\n")).unwrap();
    assert_eq!(
        secrets.get("billing").unwrap().unwrap().danger_reveal(),
        "päss wörd\n"
    );
    assert_eq!(secrets.get("orders").unwrap().unwrap().danger_reveal(), "two");
    let names: Vec<String> = secrets
        .list()
        .unwrap()
        .into_iter()
        .map(|info| info.name)
        .collect();
    assert_eq!(names, ["billing", "orders"]);
    assert!(secrets.delete("orders").unwrap() && !secrets.delete("orders").unwrap());
    assert!(secrets.get("orders").unwrap().is_none());
}

#[test]
fn the_same_secret_twice_is_not_the_same_ciphertext() {
    let (_dir, store, secrets) = in_memory();
    secrets.put("a", &Secret::new(CLEAR)).unwrap();
    let one = store.get(Table::Secrets, b"a").unwrap().unwrap().value;
    secrets.put("a", &Secret::new(CLEAR)).unwrap();
    let sealed = |value: &[u8]| {
        let text = String::from_utf8(value.to_vec()).unwrap();
        text.split_once("\"sealed\"").unwrap().1.to_owned()
    };
    assert_ne!(
        sealed(&one),
        sealed(&store.get(Table::Secrets, b"a").unwrap().unwrap().value)
    );
}

#[test]
fn a_record_that_was_moved_or_changed_does_not_open() {
    let (_dir, store, secrets) = in_memory();
    secrets.put("cheap", &Secret::new("cheap secret")).unwrap();
    secrets.put("dear", &Secret::new("dear secret")).unwrap();
    let dear = store.get(Table::Secrets, b"dear").unwrap().unwrap().value;
    store.put(Table::Secrets, b"cheap", &dear).unwrap();
    assert_eq!(secrets.get("cheap").unwrap_err(), SecretsError::Damaged);

    let text = String::from_utf8(dear).unwrap();
    for field in ["\"data_key\":\"", "\"text\":\""] {
        let at = text.find(field).unwrap() + field.len();
        for offset in [0, 20, 40] {
            let mut bytes = text.clone().into_bytes();
            bytes[at + offset] = if bytes[at + offset] == b'A' { b'B' } else { b'A' };
            store.put(Table::Secrets, b"dear", &bytes).unwrap();
            assert_eq!(
                secrets.get("dear").unwrap_err(),
                SecretsError::Damaged,
                "{field} {offset}"
            );
        }
    }
}

#[test]
fn the_key_file_is_ours_alone_and_is_never_replaced_in_silence() {
    let (dir, store, secrets) = in_memory();
    let key_file = dir.path().join("key");
    secrets.put("orders", &Secret::new(CLEAR)).unwrap();
    assert_eq!(
        std::fs::metadata(&key_file).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let open = |store: &Arc<MemoryStore>| Secrets::open(store.clone(), &key_file);
    assert_eq!(
        open(&store)
            .unwrap()
            .get("orders")
            .unwrap()
            .unwrap()
            .danger_reveal(),
        CLEAR
    );
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(open(&store), Err(SecretsError::KeyFile { .. })));
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();

    let good = std::fs::read_to_string(&key_file).unwrap();
    for wrong in [
        "",
        "zz",
        &good[..63],
        &format!("{}00", good.trim()),
        &good.replace(['0', '1', '2'], "g"),
    ] {
        std::fs::write(&key_file, wrong).unwrap();
        assert!(
            matches!(open(&store), Err(SecretsError::KeyFile { .. })),
            "{wrong:?}"
        );
    }
    std::fs::write(&key_file, "00".repeat(32)).unwrap();
    assert!(matches!(open(&store), Err(SecretsError::WrongKey { .. })));
    std::fs::remove_file(&key_file).unwrap();
    assert!(matches!(open(&store), Err(SecretsError::KeyFile { .. })));
    assert!(!key_file.exists(), "a lost key must not be replaced by a new one");
}

#[test]
fn names_and_lengths_beyond_the_bounds_are_refused() {
    let (_dir, _, secrets) = in_memory();
    for wrong in ["", "a/b", "a b", "ü", &"x".repeat(64)] {
        assert_eq!(
            secrets.put(wrong, &Secret::new("s")).unwrap_err(),
            SecretsError::Name,
            "{wrong:?}"
        );
    }
    assert_eq!(
        secrets.put("a", &Secret::new("")).unwrap_err(),
        SecretsError::Length { bytes: 0 }
    );
    assert!(
        secrets
            .put("a", &Secret::new("x".repeat(SECRET_BYTES_MAX + 1)))
            .is_err()
    );
    assert!(
        secrets
            .put("a", &Secret::new("x".repeat(SECRET_BYTES_MAX)))
            .is_ok()
    );
}
