//! The fuzz target over its committed corpus, and over what a fuzzer would make of it first.

use headgate_model::fuzz::fuzz_conversation;
use std::fs;
use std::path::Path;

#[test]
fn every_conversation_of_the_corpus_keeps_the_promises() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/conversation");
    let files: Vec<_> = fs::read_dir(&corpus)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(files.len() >= 100, "a corpus of {}", files.len());
    let mut left = 0;
    for file in files {
        let bytes = fs::read(&file).unwrap();
        left += fuzz_conversation(&bytes);
        for cut in (0..bytes.len()).step_by(61) {
            fuzz_conversation(&bytes[..cut]);
            let mut damaged = bytes.clone();
            damaged[cut] ^= 0x81;
            fuzz_conversation(&damaged);
        }
    }
    assert!(
        left > 400,
        "the conversations get as far as the target: {left} messages"
    );
}

#[test]
fn cargo_fuzz_has_a_file_for_it() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets/gate_conversation.rs");
    assert!(
        fs::read_to_string(file)
            .unwrap()
            .contains("headgate_model::fuzz::fuzz_conversation")
    );
}
