//! The rules of the seam, as tests that run on both drivers: the real ring over loopback, and the simulation over seeds.

mod chaos;
mod real;
mod rules;
mod script;
mod simulated;
mod world;

/// Each rule on the ring and on the simulation.
macro_rules! on_both_drivers {
    ($($rule:ident),* $(,)?) => {
        mod on_the_ring {
            #[test] fn chaos_closes_every_socket_once_and_gives_every_buffer_back() {
                crate::chaos::over_seeds(&mut |limits| Box::new(crate::real::Real::new(limits)), 6);
            }
            $(#[test] fn $rule() { crate::rules::$rule(&mut |limits| Box::new(crate::real::Real::new(limits))); })*
        }
        mod in_simulation {
            #[test] fn chaos_closes_every_socket_once_and_gives_every_buffer_back() {
                crate::simulated::over_seeds(|make| crate::chaos::over_seeds(make, 10));
            }
            $(#[test] fn $rule() { crate::simulated::over_seeds(crate::rules::$rule); })*
        }
    };
}

on_both_drivers! {
    a_closed_socket_says_its_last_words_even_to_a_peer_that_talks,
    a_finished_peer_can_still_be_answered,
    a_paused_socket_falls_silent_within_the_slack_and_resumes_whole,
    a_peer_that_never_reads_cannot_hold_a_closed_socket,
    a_reset_is_told_once_also_while_paused,
    aborting_a_connect_leaves_only_closed,
    aborting_drops_the_queue_and_resets,
    bytes_said_one_by_one_come_back_in_order,
    closing_lets_queued_bytes_go_first,
    connects_succeed_are_refused_and_time_out,
    late_ids_are_harmless,
    many_idle_and_half_open_sockets_do_not_matter,
    many_sockets_in_bulk_at_once_all_finish,
    much_data_to_a_slow_reader_stays_bounded_and_whole,
    no_more_sockets_than_allowed_are_accepted,
    sent_comes_once_and_only_to_who_asked,
    ticks_come_only_when_wanted,
    wakes_are_never_lost,
}
