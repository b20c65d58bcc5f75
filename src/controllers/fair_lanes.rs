//! Several queues in one: urgent keys go before the others, and no key waits for ever.

use std::collections::{HashMap, VecDeque};

use crate::api::object_key::ObjectKey;

/// After this number of more urgent keys, less one, a key of a priority has its turn. The least urgent priority that has its turn goes first.
const SHARE: u32 = 4;

/// Which of the waiting keys are taken first, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    /// Work on the object has begun, or its spec or its gateway changed. Somebody may wait for it.
    Urgent,
    /// The object is new. Objects on which work has begun go first, so that there are few half-made agents at any time.
    New,
    /// The object is as specified, as far as its status shows.
    Routine,
    /// The same, and this operator has not looked at it yet.
    FirstLook,
}

const PRIORITIES: [Priority; 4] = [Priority::Urgent, Priority::New, Priority::Routine, Priority::FirstLook];

/// How many keys of a group are taken in a row while other groups wait. By default, a gateway serves so many Agents at one time.
pub(crate) const TURN: usize = 16;

/// The waiting keys of all priorities.
///
/// # Guarantees
/// - A key passes the keys of less urgent priorities, unless one of them has its turn by [`SHARE`].
/// - No key passes another one of its priority and its group. The groups of a priority take turns of [`TURN`] keys.
#[derive(Debug, Default)]
pub(crate) struct FairLanes {
    lanes: [Lane; PRIORITIES.len()],
}

/// Keys that have something in common, such as their Board. Keys without a group are one group.
pub(crate) type Group = Option<ObjectKey>;

#[derive(Debug, Default)]
struct Lane {
    /// The groups with keys. The first one has its turn.
    turns: VecDeque<Group>,
    keys: HashMap<Group, VecDeque<ObjectKey>>,
    /// The number of keys that were taken in this turn.
    taken: usize,
    /// The number of more urgent keys that were taken since the last one of this lane.
    passed: u32,
}

impl Lane {
    fn push(&mut self, key: ObjectKey, group: Group) {
        let keys = self.keys.entry(group.clone()).or_default();
        if keys.is_empty() {
            self.turns.push_back(group);
        }
        keys.push_back(key);
    }

    /// Takes a key of the group that has its turn, or of the next one that is open. The work grows with the number of groups that are not open.
    fn pop(&mut self, is_open: impl Fn(&Group) -> bool) -> Option<ObjectKey> {
        if self.taken >= TURN {
            self.taken = 0;
            self.turns.rotate_left(1.min(self.turns.len()));
        }
        let place = self.turns.iter().position(is_open)?;
        if place > 0 {
            self.taken = 0;
            let next = self.turns.remove(place)?;
            self.turns.push_front(next);
        }
        let group = self.turns.front()?;
        let keys = self.keys.get_mut(group)?;
        let key = keys.pop_front();
        self.taken += 1;
        if keys.is_empty() {
            self.keys.remove(group);
            self.turns.pop_front();
            self.taken = 0;
        }
        key
    }
}

impl FairLanes {
    fn lane(&mut self, priority: Priority) -> &mut Lane {
        &mut self.lanes[priority as usize]
    }

    pub(crate) fn push(&mut self, key: ObjectKey, priority: Priority, group: Group) {
        self.lane(priority).push(key, group);
    }

    /// Removes a key without a group. The work grows with the number of waiting keys of this priority.
    pub(crate) fn remove(&mut self, key: &ObjectKey, priority: Priority) {
        let lane = self.lane(priority);
        if let Some(keys) = lane.keys.get_mut(&None) {
            keys.retain(|waiting| waiting != key);
            if keys.is_empty() {
                lane.keys.remove(&None);
                lane.turns.retain(Option::is_some);
            }
        }
    }

    pub(crate) fn has_urgent(&self) -> bool {
        !self.lanes[Priority::Urgent as usize].turns.is_empty()
    }

    /// Takes the next key of a priority and a group that `is_open`. A key that does not wait any more, as `waits` tells, is dropped.
    pub(crate) fn pop(
        &mut self,
        is_open: impl Fn(Priority, &Group) -> bool,
        waits: impl Fn(&ObjectKey, Priority) -> bool,
    ) -> Option<(ObjectKey, Priority)> {
        let passed = self.lanes.each_ref().map(|lane| lane.passed);
        let has_turn = |priority: &Priority| passed[*priority as usize] + 1 >= SHARE;
        let order = PRIORITIES.into_iter().rev().filter(has_turn).chain(PRIORITIES);
        for priority in order {
            while let Some(key) = self.lane(priority).pop(|group| is_open(priority, group)) {
                if waits(&key, priority) {
                    self.lane(priority).passed = 0;
                    for lane in self.lanes.iter_mut().skip(priority as usize + 1) {
                        lane.passed = lane.passed.saturating_add(1);
                    }
                    return Some((key, priority));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Priority::{FirstLook, New, Routine, Urgent};
    use super::*;

    fn lanes() -> FairLanes {
        let mut lanes = FairLanes::default();
        for (letter, priority) in [("f", FirstLook), ("r", Routine), ("n", New), ("u", Urgent)] {
            for number in 0..20 {
                lanes.push(ObjectKey::new("fleet", format!("{letter}{number:02}")), priority, None);
            }
        }
        lanes
    }

    fn names(lanes: &mut FairLanes, is_open: impl Fn(Priority, &Group) -> bool) -> Vec<String> {
        std::iter::from_fn(|| lanes.pop(&is_open, |_, _| true)).map(|(key, _)| key.name).collect()
    }

    #[test]
    fn each_priority_has_a_turn_after_three_more_urgent_keys() {
        let all = names(&mut lanes(), |_, _| true);
        let first: String = all.iter().take(16).map(|name| &name[..1]).collect();
        assert_eq!(first, "uuufrnufurufnurf".chars().collect::<String>());
        assert_eq!(all.len(), 80);
        for letter in ["u", "n", "r", "f"] {
            assert!(all.iter().filter(|name| name.starts_with(letter)).is_sorted(), "no key passes its equals");
        }
    }

    #[test]
    fn a_closed_priority_keeps_its_keys_and_its_turn() {
        let mut lanes = lanes();
        let open = names(&mut lanes, |priority, _| priority != New);
        assert!(open.len() == 60 && open.iter().all(|name| !name.starts_with('n')));
        lanes.push(ObjectKey::new("fleet", "u20"), Urgent, None);
        assert_eq!(names(&mut lanes, |_, _| true)[0], "n00");
    }

    #[test]
    fn the_groups_of_a_priority_take_turns_so_that_the_keys_of_one_group_are_taken_together() {
        let mut lanes = FairLanes::default();
        for number in 0..20 {
            for group in ["a", "b"] {
                let key = ObjectKey::new("fleet", format!("{group}{number:02}"));
                lanes.push(key, New, Some(ObjectKey::new("fleet", group)));
            }
        }
        let order = names(&mut lanes, |_, _| true);
        let groups: String = order.iter().map(|name| &name[..1]).collect();
        let turns = [("a", TURN), ("b", TURN), ("a", 20 - TURN), ("b", 20 - TURN)];
        assert_eq!(groups, turns.map(|(group, keys)| group.repeat(keys)).concat());
        assert!(order.iter().filter(|name| name.starts_with('a')).is_sorted());
        assert!(lanes.lanes.iter().all(|lane| lane.turns.is_empty() && lane.keys.is_empty()));
    }

    #[test]
    fn a_group_that_is_not_open_lets_the_next_ones_pass_and_keeps_its_keys() {
        let mut lanes = FairLanes::default();
        for name in ["a1", "b1", "a2", "b2"] {
            lanes.push(ObjectKey::new("fleet", name), New, Some(ObjectKey::new("fleet", &name[..1])));
        }
        let is_b = |_, group: &Group| group.as_ref().is_some_and(|group| group.name == "b");
        assert_eq!(names(&mut lanes, is_b), ["b1", "b2"]);
        assert_eq!(names(&mut lanes, |_, _| true), ["a1", "a2"]);
    }
}
