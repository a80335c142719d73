//! Every fuzz target over its committed corpus (`corpus/<target>/*`), and the corpus over its targets: none without the other.

use headgate_postgres::fuzz::TARGETS;
use std::fs;
use std::path::Path;

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_corpus_file_runs_through_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    assert_eq!(
        names(&corpus),
        TARGETS.map(|(name, _)| name.to_owned()),
        "a target for each corpus and a corpus for each target"
    );
    for (name, target) in TARGETS {
        let files = names(&corpus.join(name));
        assert!(files.len() >= 5, "{name} has a corpus of {}", files.len());
        for file in files {
            let bytes = fs::read(corpus.join(name).join(&file)).unwrap();
            target(&bytes);
            // Cut and damaged as well: a fuzzer's first steps.
            for cut in 0..bytes.len().min(512) {
                target(&bytes[..cut]);
                let mut damaged = bytes.clone();
                damaged[cut] ^= 0x81;
                target(&damaged);
            }
        }
    }
}

#[test]
fn cargo_fuzz_has_a_file_for_every_target() {
    let files = names(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets"));
    for (name, _) in TARGETS {
        assert!(
            files.contains(&format!("postgres_{name}.rs")),
            "fuzz/fuzz_targets/postgres_{name}.rs is missing"
        );
    }
}
