//! Every state against every event. The table is committed: a changed cell shows up in a diff.

use headgate_questions::{Event, State, next};

const TABLE: &str = include_str!("table.out");

fn render() -> String {
    let mut out = String::new();
    for state in State::ALL {
        for event in Event::ALL {
            let cell = next(state, event).map_or("refused", State::name);
            out.push_str(&format!("{:<10} {:<9} {cell}\n", state.name(), event.name()));
        }
    }
    out
}

#[test]
fn every_state_meets_every_event_as_the_table_says() {
    assert_eq!(render(), TABLE, "the table now reads:\n{}", render());
}

#[test]
fn only_an_approved_question_can_end_as_spent() {
    for state in State::ALL {
        let spends = next(state, Event::Spend).is_ok();
        let was_approved = matches!(
            state,
            State::Approved | State::Claimed | State::Lapsed | State::TakenBack
        );
        assert_eq!(spends, was_approved, "{state:?}");
    }
}

#[test]
fn an_approval_that_is_claimed_is_claimed_by_nobody_else() {
    for state in State::ALL {
        assert_eq!(
            next(state, Event::Claim).is_ok(),
            state == State::Approved,
            "{state:?}"
        );
        assert_eq!(
            next(state, Event::GiveBack).is_ok(),
            state == State::Claimed,
            "{state:?}"
        );
    }
}

#[test]
fn no_ended_question_is_ever_open_or_approved_again() {
    for state in State::ALL.into_iter().filter(|s| !s.is_live()) {
        for event in Event::ALL {
            assert!(
                !next(state, event).is_ok_and(State::is_live),
                "{state:?} × {event:?}"
            );
        }
    }
}
