//! How many streams are open, by user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Most streams of one user.
const MOST_OF_ONE: usize = 16;
/// Most streams at one time.
const MOST_STREAMS: usize = 256;

/// The streams that are open, by user.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenStreams(Arc<Mutex<HashMap<String, usize>>>);

/// A stream's place, given back when it is dropped.
pub(crate) struct StreamPermit {
    streams: OpenStreams,
    user: String,
}

impl OpenStreams {
    /// A place for one more stream of this user, if there is one.
    pub(crate) fn open(&self, user: &str) -> Option<StreamPermit> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = open.get(user).copied().unwrap_or_default();
        if mine >= MOST_OF_ONE || open.values().sum::<usize>() >= MOST_STREAMS {
            return None;
        }
        open.insert(user.to_owned(), mine + 1);
        Some(StreamPermit { streams: self.clone(), user: user.to_owned() })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mine) = open.get_mut(&self.user) {
            *mine -= 1;
            if *mine == 0 {
                open.remove(&self.user);
            }
        }
    }
}
