//! Whatever the lexer lets through, the parser and the walk survive: on a 16 MiB stack, half of what a worker has.

use headgate_sql::{Caps, precheck};
use headgate_sqlparse::facts;

#[test]
fn deep_trees_that_pass_the_lexer_do_not_overflow() {
    let texts = [
        format!("select 1{}", "+1".repeat(4_990)),
        format!("select {}1", "not ".repeat(9_900)),
        format!("select {}1", "- ".repeat(9_900)),
        format!("select 1{}", " union select 1".repeat(3_300)),
        format!("select {}1{}", "(".repeat(199), ")".repeat(199)),
        format!("select {}1{}", "f(".repeat(199), ")".repeat(199)),
        format!("{}select 1{}", "select * from (".repeat(199), ") x".repeat(199)),
        format!(
            "select {}1{}",
            "case when true then ".repeat(1_990),
            " end".repeat(1_990)
        ),
        format!("select * from t{}", " natural join t".repeat(3_300)),
        format!(
            "select * from {}t{}",
            "t join ".repeat(2_000),
            " on true".repeat(2_000)
        ),
        format!("select a{}", "[1]".repeat(4_900)),
        format!("select a{}", "::int".repeat(3_300)),
        format!("select a{}", " collate \"C\"".repeat(4_900)),
        format!("select a{}", ".b".repeat(4_900)),
        format!("select a where {}", vec!["b = 1"; 2_400].join(" or ")),
        format!("select a where {}", vec!["b"; 4_900].join(" = ")),
        format!("select a {}", " is null".repeat(4_900)),
        format!("explain {}", "explain ".repeat(9_000)),
        format!("create schema s {}", "create table t (a int) ".repeat(1_200)),
        format!("values {}", vec!["(1)"; 9_000].join(",")),
        format!("select {}", "array[".repeat(199) + "1" + &"]".repeat(199)),
    ];
    std::thread::Builder::new()
        .stack_size(16 << 20)
        .spawn(move || {
            for text in texts {
                let head: String = text.chars().take(40).collect();
                assert_eq!(precheck(text.as_bytes(), &Caps::DEFAULT), Ok(()), "{head}");
                let _ = facts(&text);
            }
        })
        .expect("a thread")
        .join()
        .expect("no overflow");
}

#[test]
fn a_tree_far_beyond_the_caps_is_walked_too() {
    std::thread::Builder::new()
        .stack_size(16 << 20)
        .spawn(|| {
            assert!(facts(&format!("select 1{}", "+1".repeat(100_000))).is_ok());
            assert!(facts(&format!("select 1{}", " union select 1".repeat(20_000))).is_ok());
        })
        .expect("a thread")
        .join()
        .expect("no overflow");
}
