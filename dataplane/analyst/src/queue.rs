//! What waits, in turns: whoever has one text waits for one text of each other owner, however many theirs are.
//!
//! Invariants: an owner stands in `turns` exactly when something of it waits; `waiting` and `bytes` are the sums of all.
//! Bounds: `waiting_max` and `bytes_max` in all (a queue with nothing in it takes anything), `per_owner_max` of one owner. A full
//! queue turns away the newest of whoever has most.

use std::collections::{HashMap, VecDeque};

#[derive(Clone, Copy, Debug)]
pub struct QueueBounds {
    pub waiting_max: usize,
    pub per_owner_max: usize,
    pub bytes_max: usize,
}

struct Owned<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
}

pub struct Queue<T> {
    bounds: QueueBounds,
    owners: HashMap<u64, Owned<T>>,
    turns: VecDeque<u64>,
    waiting: usize,
    bytes: usize,
    closed: bool,
}

impl<T> Queue<T> {
    pub fn new(bounds: QueueBounds) -> Queue<T> {
        Queue {
            bounds,
            owners: HashMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
            bytes: 0,
            closed: false,
        }
    }

    /// What there is no room for: this one, or the newest of those that have most.
    #[must_use]
    pub fn put(&mut self, owner: u64, bytes: usize, item: T) -> Vec<T> {
        let mut turned_away = Vec::new();
        let (own, own_bytes) = self
            .owners
            .get(&owner)
            .map_or((0, 0), |owned| (owned.items.len(), owned.bytes));
        if self.closed || own >= self.bounds.per_owner_max {
            return vec![item];
        }
        // Seldom, and each search is at most as long as the queue: there is no order of shares to keep.
        while let Some(most) = self.who_gives_way(own, own_bytes, bytes) {
            match most {
                Some(owner) => turned_away.extend(self.take(owner, VecDeque::pop_back)),
                None => {
                    turned_away.push(item);
                    return turned_away;
                }
            }
        }
        let owned = self.owners.entry(owner).or_insert_with(|| Owned {
            items: VecDeque::new(),
            bytes: 0,
        });
        if owned.items.is_empty() {
            self.turns.push_back(owner);
        }
        owned.items.push_back((bytes, item));
        owned.bytes += bytes;
        self.waiting += 1;
        self.bytes += bytes;
        turned_away
    }

    /// `None`: there is room. `Some(None)`: there is not, and nobody has more than whoever asks would have.
    fn who_gives_way(&self, own: usize, own_bytes: usize, bytes: usize) -> Option<Option<u64>> {
        let (mine, measure): (usize, fn(&Owned<T>) -> usize) = if self.waiting >= self.bounds.waiting_max {
            (own + 1, |owned| owned.items.len())
        } else if self.waiting > 0 && self.bytes.saturating_add(bytes) > self.bounds.bytes_max {
            (own_bytes.saturating_add(bytes), |owned| owned.bytes)
        } else {
            return None;
        };
        let most = self.owners.iter().max_by_key(|(_, owned)| measure(owned));
        Some(
            most.filter(|(_, owned)| measure(owned) > mine)
                .map(|(owner, _)| *owner),
        )
    }

    /// The oldest of the owner whose turn it is.
    pub fn next(&mut self) -> Option<T> {
        let owner = *self.turns.front()?;
        let item = self.take(owner, VecDeque::pop_front);
        if self.owners.contains_key(&owner) {
            self.turns.rotate_left(1);
        }
        item
    }

    fn take(
        &mut self,
        owner: u64,
        end: impl FnOnce(&mut VecDeque<(usize, T)>) -> Option<(usize, T)>,
    ) -> Option<T> {
        let owned = self.owners.get_mut(&owner)?;
        let (bytes, item) = end(&mut owned.items)?;
        owned.bytes -= bytes;
        self.bytes -= bytes;
        self.waiting -= 1;
        if owned.items.is_empty() {
            self.owners.remove(&owner);
            if self.turns.front() == Some(&owner) {
                self.turns.pop_front();
            } else {
                self.turns.retain(|of| *of != owner);
            }
        }
        Some(item)
    }

    pub fn len(&self) -> usize {
        self.waiting
    }

    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Nothing more is taken in; what waits is still served.
    pub fn close(&mut self) {
        self.closed = true;
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(waiting_max: usize, per_owner_max: usize) -> Queue<(u64, u32)> {
        Queue::new(QueueBounds {
            waiting_max,
            per_owner_max,
            bytes_max: 1000,
        })
    }

    fn put(queue: &mut Queue<(u64, u32)>, owner: u64, n: u32) -> Vec<(u64, u32)> {
        queue.put(owner, 1, (owner, n))
    }

    fn rest(queue: &mut Queue<(u64, u32)>) -> Vec<(u64, u32)> {
        let all = std::iter::from_fn(|| queue.next()).collect();
        assert!(queue.is_empty() && queue.turns.is_empty() && queue.owners.is_empty() && queue.bytes == 0);
        all
    }

    #[test]
    fn who_has_one_waits_for_one_of_each_other() {
        let mut queue = queue(1000, 1000);
        for n in 0..100 {
            assert_eq!(put(&mut queue, 1, n), []);
        }
        assert_eq!(put(&mut queue, 2, 0), []);
        assert_eq!(put(&mut queue, 3, 0), []);
        assert_eq!(rest(&mut queue)[..5], [(1, 0), (2, 0), (3, 0), (1, 1), (1, 2)]);
    }

    #[test]
    fn an_owner_has_a_bound_of_its_own() {
        let mut queue = queue(10, 3);
        for n in 0..3 {
            assert_eq!(put(&mut queue, 1, n), []);
        }
        assert_eq!(put(&mut queue, 1, 3), [(1, 3)]);
        assert_eq!(put(&mut queue, 2, 0), []);
        assert_eq!(queue.len(), 4);
    }

    #[test]
    fn a_full_queue_takes_from_who_has_most_and_from_nobody_for_its_equal() {
        let mut queue = queue(6, 6);
        for n in 0..4 {
            assert_eq!(put(&mut queue, 1, n), []);
        }
        assert_eq!(put(&mut queue, 2, 0), []);
        assert_eq!(put(&mut queue, 2, 1), []);
        assert_eq!(put(&mut queue, 3, 0), [(1, 3)]);
        assert_eq!(put(&mut queue, 3, 1), [(1, 2)]);
        assert_eq!(put(&mut queue, 3, 2), [(3, 2)], "all have two");
        assert_eq!(put(&mut queue, 1, 9), [(1, 9)]);
        assert_eq!(queue.len(), 6);
        assert_eq!(rest(&mut queue), [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (3, 1)]);
    }

    #[test]
    fn bytes_have_a_bound_and_whoever_has_most_of_them_gives_way() {
        let mut queue = queue(100, 100);
        assert_eq!(queue.put(1, 5000, (1, 0)), [], "nothing waits: anything is taken");
        assert_eq!(queue.put(2, 10, (2, 0)), [(1, 0)]);
        for n in 1..=3 {
            assert_eq!(queue.put(1, 300, (1, n)), []);
        }
        assert_eq!(queue.put(1, 300, (1, 4)), [(1, 4)]);
        assert_eq!(queue.put(3, 200, (3, 0)), [(1, 3)]);
        assert_eq!(queue.put(3, 900, (3, 1)), [(3, 1)]);
        assert_eq!(rest(&mut queue), [(2, 0), (1, 1), (3, 0), (1, 2)]);
    }

    #[test]
    fn a_closed_queue_takes_nothing_in_and_serves_what_waits() {
        let mut queue = queue(6, 6);
        assert_eq!(put(&mut queue, 1, 0), []);
        queue.close();
        assert_eq!(put(&mut queue, 1, 1), [(1, 1)]);
        assert_eq!(rest(&mut queue), [(1, 0)]);
    }
}
