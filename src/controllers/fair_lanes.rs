//! Two queues in one: urgent keys go before routine keys, and no routine key waits for ever.

use std::collections::VecDeque;

use crate::api::object_key::ObjectKey;

/// While urgent keys wait, one key in this number is a routine one.
const ROUTINE_SHARE: u32 = 4;

/// Which of the waiting keys are taken first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Before the routine keys: somebody may wait for this object.
    Urgent,
    /// The object is as specified, as far as its status shows.
    Routine,
}

/// The waiting keys of both priorities.
///
/// # Guarantees
/// - No key passes another one of its priority.
/// - Urgent keys pass routine keys, but one key in [`ROUTINE_SHARE`] is a routine one.
#[derive(Debug, Default)]
pub(crate) struct FairLanes {
    urgent: VecDeque<ObjectKey>,
    routine: VecDeque<ObjectKey>,
    /// The number of urgent keys that were taken since the last routine key.
    urgent_in_a_row: u32,
}

impl FairLanes {
    fn lane(&mut self, priority: Priority) -> &mut VecDeque<ObjectKey> {
        match priority {
            Priority::Urgent => &mut self.urgent,
            Priority::Routine => &mut self.routine,
        }
    }

    pub(crate) fn push(&mut self, key: ObjectKey, priority: Priority) {
        self.lane(priority).push_back(key);
    }

    /// Removes a key. The work grows with the number of waiting keys of this priority.
    pub(crate) fn remove(&mut self, key: &ObjectKey, priority: Priority) {
        self.lane(priority).retain(|waiting| waiting != key);
    }

    pub(crate) fn has_urgent(&self) -> bool {
        !self.urgent.is_empty()
    }

    /// Takes the next key. A key that does not wait any more, as `waits` tells, is dropped.
    pub(crate) fn pop(&mut self, waits: impl Fn(&ObjectKey, Priority) -> bool) -> Option<(ObjectKey, Priority)> {
        let order = if self.urgent_in_a_row + 1 < ROUTINE_SHARE {
            [Priority::Urgent, Priority::Routine]
        } else {
            [Priority::Routine, Priority::Urgent]
        };
        for priority in order {
            while let Some(key) = self.lane(priority).pop_front() {
                if waits(&key, priority) {
                    self.urgent_in_a_row = match priority {
                        Priority::Urgent => self.urgent_in_a_row.saturating_add(1),
                        Priority::Routine => 0,
                    };
                    return Some((key, priority));
                }
            }
        }
        None
    }
}
