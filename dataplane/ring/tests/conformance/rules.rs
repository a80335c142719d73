//! The rules. Each says what a session relies on.

use crate::script::{HIGH, LAST_WORDS, Mode, Seen};
use crate::world::{Limits, Make, World, dial, saw};
use headgate_ring::{End, Io, PAUSE_SLACK_BYTES, SocketId};
use std::sync::mpsc;
use std::time::Duration;

/// Bytes in which a lost, doubled or moved piece shows.
fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x1234_5678_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn mode(world: &mut dyn World, mode: Mode) {
    world.tell(Box::new(move |_, s| s.mode = mode));
}

/// Runs something in the handler that yields an id.
fn ask(world: &mut dyn World, what: impl FnOnce(&mut dyn Io) -> SocketId + Send + 'static) -> SocketId {
    let (sender, receiver) = mpsc::channel();
    world.tell(Box::new(move |io, _| sender.send(what(io)).unwrap()));
    world.wait("a command to run", &mut |s| s.commands.is_empty());
    receiver.recv_timeout(Duration::from_secs(5)).unwrap()
}

fn connects_to_the_accepting_target(world: &mut dyn World) -> (SocketId, usize) {
    let address = world.accepting_target();
    let id = ask(world, move |io| io.connect(address, 5_000));
    let peer = world.arrival();
    saw(world, Seen::Connected(id, Ok(())));
    (id, peer)
}

pub fn bytes_said_one_by_one_come_back_in_order(make: Make<'_>) {
    let mut world = make(Limits::default());
    let (peer, _) = dial(&mut *world);
    let words = pattern(500);
    for byte in &words {
        world.say(peer, &[*byte]);
    }
    assert_eq!(world.hear(peer, 500), words);
    // And again with a turn between the bytes.
    for byte in &words[..40] {
        world.say(peer, &[*byte]);
        assert_eq!(world.hear(peer, 1), [*byte]);
    }
    world.end();
}

pub fn sent_comes_once_and_only_to_who_asked(make: Make<'_>) {
    let mut world = make(Limits::default());
    let (peer, id) = dial(&mut *world);
    world.say(peer, b"echo");
    assert_eq!(world.hear(peer, 4), b"echo");
    world.pass(Duration::from_millis(20));
    world.look(&mut |s| assert_eq!(s.times(Seen::Sent(id)), 0, "nobody asked"));
    world.tell(Box::new(move |io, s| {
        s.send(io, id, &pattern(100_000));
        io.tell_sent(id);
    }));
    assert_eq!(world.hear(peer, 100_000).len(), 100_000);
    saw(&mut *world, Seen::Sent(id));
    // With nothing queued it comes as well: who asks is answered.
    world.tell(Box::new(move |io, _| io.tell_sent(id)));
    world.wait("the second", &mut |s| s.times(Seen::Sent(id)) == 2);
    world.say(peer, b"more");
    assert_eq!(world.hear(peer, 4), b"more");
    world.pass(Duration::from_millis(20));
    world.look(&mut |s| assert_eq!(s.times(Seen::Sent(id)), 2));
    world.end();
}

pub fn much_data_to_a_slow_reader_stays_bounded_and_whole(make: Make<'_>) {
    let mut world = make(Limits::default());
    let (peer, _) = dial(&mut *world);
    let words = pattern(24 << 20);
    world.deaf(peer);
    world.say(peer, &words);
    world.pass(Duration::from_millis(300));
    let mut at = 0;
    while at < words.len() {
        let heard = world.hear(peer, (words.len() - at).min(3 << 20));
        assert!(!heard.is_empty(), "bytes come until the last");
        assert!(words[at..].starts_with(&heard), "a piece at {at} differs");
        at += heard.len();
    }
    world.look(&mut |s| {
        assert!(
            s.queued_most <= HIGH + PAUSE_SLACK_BYTES + (64 << 10),
            "{} bytes were queued",
            s.queued_most
        );
        assert!(
            s.queued_most >= HIGH,
            "the reader was slow enough to matter: {}",
            s.queued_most
        );
    });
    world.end();
}

pub fn a_paused_socket_falls_silent_within_the_slack_and_resumes_whole(make: Make<'_>) {
    let mut world = make(Limits::default());
    mode(&mut *world, Mode::Collect);
    let (peer, id) = dial(&mut *world);
    let words = pattern(16 << 20);
    world.tell(Box::new(move |io, s| s.pause(io, id)));
    world.pass(Duration::from_millis(50));
    world.say(peer, &words[..100]);
    world.pass(Duration::from_millis(50));
    world.look(&mut |s| {
        assert!(
            !s.received.contains_key(&id),
            "what was said after the pause does not come"
        )
    });
    // And in the middle of bulk: a little more, then silence.
    world.say(peer, &words[100..]);
    world.tell(Box::new(move |io, s| {
        s.resume(io, id);
        s.pause(io, id);
    }));
    world.pass(Duration::from_millis(200));
    let mut got = usize::MAX;
    world.look(&mut |s| got = s.received.get(&id).map_or(0, Vec::len));
    assert!(got <= PAUSE_SLACK_BYTES);
    world.pass(Duration::from_millis(100));
    world.look(&mut |s| {
        assert_eq!(
            s.received.get(&id).map_or(0, Vec::len),
            got,
            "silent means silent"
        )
    });
    for _ in 0..20 {
        world.tell(Box::new(move |io, s| s.resume(io, id)));
        world.tell(Box::new(move |io, s| {
            s.pause(io, id);
            s.resume(io, id);
            s.pause(io, id);
        }));
    }
    world.tell(Box::new(move |io, s| s.resume(io, id)));
    world.wait("all bytes", &mut |s| {
        s.received.get(&id).map_or(0, Vec::len) >= words.len()
    });
    world.look(&mut |s| assert!(s.received[&id] == words, "whole and in order"));
    world.end();
}

pub fn aborting_drops_the_queue_and_resets(make: Make<'_>) {
    let mut world = make(Limits::default());
    let (peer, id) = dial(&mut *world);
    world.deaf(peer);
    world.tell(Box::new(move |io, s| {
        for _ in 0..100 {
            s.send(io, id, &pattern(128 << 10));
        }
    }));
    world.pass(Duration::from_millis(100));
    world.tell(Box::new(move |io, s| {
        s.abort(io, id);
    }));
    saw(&mut *world, Seen::Closed(id));
    let (heard, end) = world.hear_end(peer);
    assert_eq!(end, End::Broken(libc::ECONNRESET));
    assert!(heard.len() < 100 * (128 << 10), "not all can have arrived");
    world.wait("all buffers back", &mut |s| s.buffers_back == s.buffers_sent);
    world.end();
}

pub fn closing_lets_queued_bytes_go_first(make: Make<'_>) {
    let mut world = make(Limits::default());
    let (peer, id) = dial(&mut *world);
    let words = pattern(12 << 20);
    let theirs = words.clone();
    world.deaf(peer);
    world.tell(Box::new(move |io, s| {
        for piece in theirs.chunks(100_000) {
            s.send(io, id, piece);
        }
        s.close(io, id);
        // Closed is closed: this one is not sent.
        s.send(io, id, b"too late");
    }));
    world.pass(Duration::from_millis(100));
    let (heard, end) = world.hear_end(peer);
    assert_eq!(end, End::Finished);
    assert!(heard == words, "{} of {} bytes came", heard.len(), words.len());
    saw(&mut *world, Seen::Closed(id));
    world.wait("all buffers back", &mut |s| s.buffers_back == s.buffers_sent);
    world.end();
}

pub fn a_peer_that_never_reads_cannot_hold_a_closed_socket(make: Make<'_>) {
    let mut world = make(Limits {
        close_linger_ms: 300,
        ..Limits::default()
    });
    let (peer, id) = dial(&mut *world);
    world.deaf(peer);
    world.tell(Box::new(move |io, s| {
        for _ in 0..200 {
            s.send(io, id, &pattern(128 << 10));
        }
        s.close(io, id);
    }));
    saw(&mut *world, Seen::Closed(id));
    world.look(&mut |s| {
        let took_ms = s.closed_after_us[&id] / 1_000;
        // The upper bound is loose for a busy machine; without any, the wait above would have failed.
        assert!((300..3_000).contains(&took_ms), "closed after {took_ms} ms");
    });
    world.wait("all buffers back", &mut |s| s.buffers_back == s.buffers_sent);
    let (_, end) = world.hear_end(peer);
    assert_eq!(end, End::Broken(libc::ECONNRESET));
    world.end();
}

pub fn a_closed_socket_says_its_last_words_even_to_a_peer_that_talks(make: Make<'_>) {
    let mut world = make(Limits::default());
    mode(&mut *world, Mode::Dismiss);
    for round in 0..10 {
        let (peer, id) = dial(&mut *world);
        world.deaf(peer);
        world.say(peer, &pattern(if round % 2 == 0 { 600 << 10 } else { 10 }));
        world.pass(Duration::from_millis(20));
        // Were the socket gone by now, this would bring a RST.
        world.say(peer, b"and another thing");
        world.pass(Duration::from_millis(20));
        let (heard, end) = world.hear_end(peer);
        assert_eq!((heard.as_slice(), end), (LAST_WORDS, End::Finished));
        saw(&mut *world, Seen::Closed(id));
    }
    // Long last words: they wait in the kernel for a slow reader, and a RST would drop them there.
    let words = pattern(300 << 10);
    let (peer, id) = dial(&mut *world);
    world.deaf(peer);
    let theirs = words.clone();
    world.tell(Box::new(move |io, s| {
        s.send(io, id, &theirs);
        s.close(io, id);
    }));
    world.pass(Duration::from_millis(50));
    world.say(peer, b"and another thing");
    world.pass(Duration::from_millis(50));
    let (heard, end) = world.hear_end(peer);
    assert_eq!((heard.len(), end), (words.len(), End::Finished));
    assert!(heard == words);
    saw(&mut *world, Seen::Closed(id));
    world.end();
}

pub fn a_finished_peer_can_still_be_answered(make: Make<'_>) {
    let mut world = make(Limits::default());
    mode(&mut *world, Mode::Collect);
    let (peer, id) = dial(&mut *world);
    let words = pattern(300_000);
    world.say(peer, &words);
    world.wait("all bytes", &mut |s| {
        s.received.get(&id).map_or(0, Vec::len) == words.len()
    });
    world.finish(peer);
    saw(&mut *world, Seen::Ended(id, End::Finished));
    world.pass(Duration::from_millis(50));
    world.look(&mut |s| {
        assert_eq!(
            s.times(Seen::Closed(id)),
            0,
            "the socket stays until it is closed"
        )
    });
    world.tell(Box::new(move |io, s| {
        s.send(io, id, b"good");
        s.send(io, id, b"bye");
        s.close(io, id);
    }));
    assert_eq!(world.hear_end(peer), (b"goodbye".to_vec(), End::Finished));
    saw(&mut *world, Seen::Closed(id));
    world.look(&mut |s| assert_eq!(s.times(Seen::Ended(id, End::Finished)), 1));
    world.end();
}

pub fn a_reset_is_told_once_also_while_paused(make: Make<'_>) {
    let mut world = make(Limits::default());
    mode(&mut *world, Mode::Collect);
    for paused in [false, true] {
        let (peer, id) = dial(&mut *world);
        if paused {
            world.tell(Box::new(move |io, s| s.pause(io, id)));
            world.pass(Duration::from_millis(50));
        }
        world.reset(peer);
        saw(&mut *world, Seen::Ended(id, End::Broken(libc::ECONNRESET)));
        world.tell(Box::new(move |io, s| {
            s.send(io, id, b"to nobody");
            assert_eq!(io.queued(id), 0);
        }));
        world.pass(Duration::from_millis(50));
        world.look(&mut |s| {
            let ends = s
                .seen
                .iter()
                .filter(|e| matches!(e, Seen::Ended(e, _) if *e == id))
                .count();
            assert_eq!(ends, 1, "told once, paused {paused}");
            assert_eq!(s.times(Seen::Closed(id)), 0);
        });
        world.tell(Box::new(move |io, s| s.close(io, id)));
        saw(&mut *world, Seen::Closed(id));
    }
    world.wait("all buffers back", &mut |s| s.buffers_back == s.buffers_sent);
    world.end();
}

pub fn connects_succeed_are_refused_and_time_out(make: Make<'_>) {
    let mut world = make(Limits::default());
    let (id, peer) = connects_to_the_accepting_target(&mut *world);
    world.say(peer, b"hello");
    assert_eq!(world.hear(peer, 5), b"hello");
    world.tell(Box::new(move |io, s| s.close(io, id)));
    assert_eq!(world.hear_end(peer), (vec![], End::Finished));
    saw(&mut *world, Seen::Closed(id));

    let address = world.refusing_target();
    let refused = ask(&mut *world, move |io| {
        let id = io.connect(address, 5_000);
        io.send(id, b"before it fails".to_vec());
        assert_ne!(io.queued(id), 0);
        id
    });
    saw(&mut *world, Seen::Connected(refused, Err(libc::ECONNREFUSED)));

    let address = world.silent_target();
    let silent = ask(&mut *world, move |io| io.connect(address, 200));
    world.pass(Duration::from_millis(100));
    world.look(&mut |s| {
        assert!(
            !s.seen
                .iter()
                .any(|e| matches!(e, Seen::Connected(i, _) if *i == silent)),
            "not yet"
        )
    });
    saw(&mut *world, Seen::Connected(silent, Err(libc::ETIMEDOUT)));
    world.pass(Duration::from_millis(50));
    world.look(&mut |s| {
        for id in [refused, silent] {
            assert_eq!(s.times(Seen::Closed(id)), 0, "a failed connect has no closed");
        }
    });
    world.end();
}

pub fn aborting_a_connect_leaves_only_closed(make: Make<'_>) {
    let mut world = make(Limits::default());
    let address = world.silent_target();
    for close in [true, false] {
        let id = ask(&mut *world, move |io| io.connect(address, 10_000));
        world.tell(Box::new(
            move |io, s| if close { s.close(io, id) } else { s.abort(io, id) },
        ));
        saw(&mut *world, Seen::Closed(id));
        world.pass(Duration::from_millis(50));
        world.look(&mut |s| {
            assert!(
                !s.seen
                    .iter()
                    .any(|e| matches!(e, Seen::Connected(i, _) if *i == id))
            )
        });
    }
    // In the very call that asked for it, too.
    let (sender, receiver) = mpsc::channel();
    world.tell(Box::new(move |io, s| {
        let id = io.connect(address, 10_000);
        s.abort(io, id);
        sender.send(id).unwrap();
    }));
    let id = receiver.recv_timeout(Duration::from_secs(5)).unwrap();
    saw(&mut *world, Seen::Closed(id));
    world.end();
}

pub fn late_ids_are_harmless(make: Make<'_>) {
    let mut world = make(Limits::default());
    let (old_peer, old) = dial(&mut *world);
    world.tell(Box::new(move |io, s| s.close(io, old)));
    assert_eq!(world.hear_end(old_peer).1, End::Finished);
    saw(&mut *world, Seen::Closed(old));
    // Its slot is likely used again.
    let (peer, new) = dial(&mut *world);
    assert_ne!(old, new);
    for _ in 0..3 {
        world.tell(Box::new(move |io, s| {
            s.send(io, old, b"to the dead");
            io.pause(old);
            io.close(old);
            io.abort(old);
            assert_eq!(io.queued(old), 0);
        }));
    }
    world.say(peer, b"alive");
    assert_eq!(world.hear(peer, 5), b"alive");
    world.look(&mut |s| assert_eq!(s.times(Seen::Closed(old)), 1));
    world.end();
}

pub fn many_idle_and_half_open_sockets_do_not_matter(make: Make<'_>) {
    let mut world = make(Limits::default());
    let (busy, _) = dial(&mut *world);
    let others: Vec<_> = (0..200).map(|_| dial(&mut *world)).collect();
    for (peer, id) in &others[..100] {
        world.finish(*peer);
        saw(&mut *world, Seen::Ended(*id, End::Finished));
    }
    for round in 0..50u8 {
        world.say(busy, &[round; 100]);
        assert_eq!(world.hear(busy, 100), [round; 100]);
    }
    let (peer, _) = others[150];
    world.say(peer, b"awake");
    assert_eq!(world.hear(peer, 5), b"awake");
    let ids: Vec<_> = others.iter().map(|(_, id)| *id).collect();
    world.tell(Box::new(move |io, s| ids.iter().for_each(|id| s.close(io, *id))));
    for (peer, id) in &others {
        assert_eq!(world.hear_end(*peer).1, End::Finished);
        saw(&mut *world, Seen::Closed(*id));
    }
    world.say(busy, b"still here");
    assert_eq!(world.hear(busy, 10), b"still here");
    world.end();
}

/// More than there are large buffers, so that these run out within a turn.
pub fn many_sockets_in_bulk_at_once_all_finish(make: Make<'_>) {
    let mut world = make(Limits::default());
    mode(&mut *world, Mode::Collect);
    let sockets: Vec<_> = (0..40).map(|_| dial(&mut *world)).collect();
    let words = pattern(1 << 20);
    for (peer, _) in &sockets {
        world.say(*peer, &words);
    }
    for (_, id) in &sockets {
        world.wait("all bytes", &mut |s| {
            s.received.get(id).map_or(0, Vec::len) >= words.len()
        });
        world.look(&mut |s| assert!(s.received[id] == words));
    }
    // Small words after bulk still come through.
    for (peer, id) in &sockets {
        world.say(*peer, b"x");
        world.wait("a small word", &mut |s| s.received[id].len() == words.len() + 1);
    }
    world.end();
}

pub fn no_more_sockets_than_allowed_are_accepted(make: Make<'_>) {
    let mut world = make(Limits {
        sockets_max: 3,
        ..Limits::default()
    });
    let kept: Vec<_> = (0..3).map(|_| dial(&mut *world)).collect();
    let extra = world.dial();
    let (heard, _) = world.hear_end(extra);
    assert!(heard.is_empty(), "it is closed without a word");
    world.look(&mut |s| assert_eq!(s.accepted.len(), 3));
    // Targets have places of their own.
    let (target, target_peer) = connects_to_the_accepting_target(&mut *world);
    for (peer, _) in &kept {
        world.say(*peer, b"ok");
        assert_eq!(world.hear(*peer, 2), b"ok");
    }
    let (peer, id) = kept[0];
    world.tell(Box::new(move |io, s| {
        s.close(io, id);
        s.close(io, target);
    }));
    assert_eq!(world.hear_end(peer).1, End::Finished);
    assert_eq!(world.hear_end(target_peer).1, End::Finished);
    saw(&mut *world, Seen::Closed(id));
    let (peer, _) = dial(&mut *world);
    world.say(peer, b"in");
    assert_eq!(world.hear(peer, 2), b"in");
    world.end();
}

pub fn ticks_come_only_when_wanted(make: Make<'_>) {
    let mut world = make(Limits::default());
    world.pass(Duration::from_millis(100));
    world.look(&mut |s| assert_eq!(s.ticks, 0));
    world.tell(Box::new(|_, s| s.wants_ticks = true));
    world.pass(Duration::from_millis(500));
    let mut ticks = 0;
    world.look(&mut |s| ticks = s.ticks);
    assert!(
        (10..=55).contains(&ticks),
        "at most fifty ticks of 10 ms in half a second, fewer on a busy machine, not {ticks}"
    );
    world.tell(Box::new(|_, s| s.wants_ticks = false));
    world.wait("the command", &mut |s| s.commands.is_empty());
    world.look(&mut |s| ticks = s.ticks);
    world.pass(Duration::from_millis(100));
    world.look(&mut |s| assert!(s.ticks <= ticks + 1));
    world.end();
}

pub fn wakes_are_never_lost(make: Make<'_>) {
    let mut world = make(Limits::default());
    let (sender, receiver) = mpsc::channel();
    for n in 0..2_000u32 {
        let sender = sender.clone();
        world.tell(Box::new(move |_, _| sender.send(n).unwrap()));
        if n % 7 == 0 {
            world.wait("this command", &mut |s| s.commands.is_empty());
        }
    }
    world.wait("all commands", &mut |s| s.commands.is_empty());
    let got: Vec<u32> = (0..2_000)
        .map(|_| receiver.recv_timeout(Duration::from_secs(5)).unwrap())
        .collect();
    assert!(got.iter().copied().eq(0..2_000));
    world.end();
}
