//! Buffers on their way out of one socket, in order.
//!
//! Nearly always there is one: it lies in the socket's slot, and only those behind it in memory of their own. So what a
//! small send touches stays in two cache lines, however many sockets take turns.
//! Invariant: with no first buffer there are none behind it.

use std::collections::VecDeque;

#[derive(Default)]
pub(crate) struct Queue {
    first: Option<Vec<u8>>,
    behind: VecDeque<Vec<u8>>,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.behind.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn front(&self) -> Option<&Vec<u8>> {
        self.first.as_ref()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.first.iter().chain(&self.behind)
    }

    pub(crate) fn push_back(&mut self, buffer: Vec<u8>) {
        if self.first.is_none() {
            self.first = Some(buffer);
        } else {
            self.behind.push_back(buffer);
        }
    }

    pub(crate) fn pop_front(&mut self) -> Option<Vec<u8>> {
        let front = self.first.take();
        if !self.behind.is_empty() {
            self.first = self.behind.pop_front();
        }
        front
    }

    pub(crate) fn pop_back(&mut self) -> Option<Vec<u8>> {
        self.behind.pop_back().or_else(|| self.first.take())
    }

    /// A queue that once was long gives its memory back.
    pub(crate) fn shrink(&mut self) {
        self.behind.shrink_to(8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_go_out_in_order_and_come_back_from_either_end() {
        let mut queue = Queue::default();
        assert!(queue.is_empty() && queue.pop_front().is_none() && queue.pop_back().is_none());
        for round in 0..3u8 {
            for n in 0..4 {
                queue.push_back(vec![round, n]);
                assert_eq!(queue.len(), usize::from(n) + 1);
            }
            assert!(queue.iter().map(|b| b[1]).eq(0..4));
            assert_eq!(queue.front().map(|b| b[1]), Some(0));
            assert_eq!(queue.pop_back().map(|b| b[1]), Some(3));
            assert!((0..3).all(|n| queue.pop_front().is_some_and(|b| b == [round, n])));
            assert!(queue.is_empty() && queue.front().is_none());
        }
        queue.push_back(vec![7]);
        assert_eq!(queue.pop_back(), Some(vec![7]));
        assert!(queue.is_empty());
    }
}
