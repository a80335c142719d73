//! The reference of fields in docs/rules.md is made of the table that conditions are checked and evaluated by. To write it:
//! `HEADGATE_BLESS=1 cargo test -p headgate-policy --test reference`.

const BEGIN: &str = "<!-- fields:";
const END: &str = "<!-- /fields -->";

#[test]
fn the_reference_page_has_every_field_of_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rules.md");
    let page = std::fs::read_to_string(path).expect("docs/rules.md");
    let (before, rest) = page
        .split_once(BEGIN)
        .expect("the page has the mark where the fields begin");
    let (comment, rest) = rest.split_once('\n').expect("a line");
    let (_, after) = rest
        .split_once(END)
        .expect("the page has the mark where they end");
    let wanted = format!(
        "{before}{BEGIN}{comment}\n{}{END}{after}",
        headgate_policy::reference()
    );
    if std::env::var_os("HEADGATE_BLESS").is_some() {
        std::fs::write(path, &wanted).expect("the page can be written");
    }
    let page = std::fs::read_to_string(path).expect("docs/rules.md");
    assert!(
        page == wanted,
        "a field of conditions is another one now; run with HEADGATE_BLESS=1 and read the diff of docs/rules.md"
    );
}
