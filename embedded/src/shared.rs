//! What all requests share: the kinds, the stored objects, the database, and the news of writes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use secrecy::SecretString;
use tokio::sync::watch;

use crate::database::Database;
use crate::objects::Objects;
use crate::refusal::Refusal;
use crate::resource::Resources;

/// The state of the API.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) resources: Resources,
    objects: Mutex<Objects>,
    /// Where the objects are on the disk. None: in memory only.
    pub(crate) database: Option<Database>,
    /// The revision of the last write. Watches wait for it.
    pub(crate) revisions: watch::Sender<u64>,
    /// The token of the one person. None: nobody has one.
    pub(crate) admin: Option<SecretString>,
}

impl Shared {
    pub(crate) fn new(
        resources: Resources,
        objects: Objects,
        database: Option<Database>,
        admin: Option<SecretString>,
    ) -> Self {
        let revisions = watch::Sender::new(objects.revision());
        Self { resources, objects: Mutex::new(objects), database, revisions, admin }
    }

    /// The stored objects. No task waits while it has them, but for the disk.
    pub(crate) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the changes after a revision on the disk, or takes them back.
    ///
    /// # Errors
    /// The disk is full, or the file cannot be written.
    pub(crate) fn commit(&self, objects: &mut Objects, before: u64) -> Result<(), Refusal> {
        let revision = objects.revision();
        if let Some(database) = &self.database
            && revision != before
        {
            // The history has the changes of this write: it is trimmed only after it.
            let saved = match objects.since(before) {
                Ok(changes) => database.save(&self.resources, before, revision, changes),
                Err(_) => Err("its history was cut off".to_owned()),
            };
            if let Err(error) = saved {
                objects.undo(before);
                let message =
                    format!("the write was not stored, and nothing is changed: {error}; free space on the disk");
                return Err(Refusal::internal(message));
            }
        }
        objects.trim();
        Ok(())
    }
}
