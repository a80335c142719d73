//! The sandboxed parser process; started by the pool in `headgate-analyst`.
fn main() {
    headgate_analyst::run_analyst()
}
