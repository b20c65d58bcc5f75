//! The database: one file that has every acknowledged write, whenever the process ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use redb::{Database as Redb, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};
use serde_json::Value;

use crate::objects::{Change, Deed, Key, Objects};
use crate::resource::Resources;

/// The objects as JSON, by `group/plural/namespace/name`.
const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
/// The numbers of [`FORMAT`] and [`REVISION`].
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const FORMAT: &str = "format";
const REVISION: &str = "revision";
/// The format that this version writes.
const THIS_FORMAT: u64 = 1;
/// The revision of an API without a write.
const FIRST_REVISIONS: u64 = 1;
/// The memory that the database may use, in bytes. All objects are in memory anyway.
const CACHE: usize = 8 * 1024 * 1024;

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("another process has it open")]
    InUse,
    /// A newer version of Muster wrote it.
    #[error("a newer version of Muster wrote it, in format {0}; this version reads formats up to {THIS_FORMAT}")]
    Newer(u64),
    /// Its content is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The file cannot be read or written.
    #[error("{0}")]
    File(String),
}

impl From<redb::Error> for OpenError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::Corrupted(text) => Self::Damaged(text),
            redb::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Self::Damaged(error.to_string())
            }
            redb::Error::UpgradeRequired(_) | redb::Error::TableTypeMismatch { .. } => Self::Damaged(error.to_string()),
            error => Self::File(error.to_string()),
        }
    }
}

/// A database.
#[derive(Debug)]
pub(crate) struct Database {
    file: PathBuf,
    /// None after a failed write: redb then takes no other one until the file is opened again.
    open: Mutex<Option<Redb>>,
}

fn open(file: &Path) -> Result<Redb, redb::Error> {
    let opened = Redb::builder().set_cache_size(CACHE).create(file);
    opened.map_err(|error: DatabaseError| redb::Error::from(error))
}

impl Database {
    /// Opens a database, or makes one, and reads its objects.
    ///
    /// # Errors
    /// The file is in use, of a newer version, damaged, or cannot be read.
    pub(crate) fn open(file: &Path, resources: &Resources) -> Result<(Self, Option<Objects>), OpenError> {
        // redb ends in a panic at some damaged pages.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let mut database = open(file)?;
            database.check_integrity().map_err(|error: DatabaseError| redb::Error::from(error))?;
            let objects = read(&database, resources)?;
            Ok((Self { file: file.to_owned(), open: Mutex::new(Some(database)) }, objects))
        }));
        opened.unwrap_or_else(|_| Err(OpenError::Damaged("a page of it cannot be read".into())))
    }

    /// Writes changes after the revision `before`, all or none. They are on the disk when this returns.
    ///
    /// # Errors
    /// The disk is full, or the file cannot be written. The next write opens the file again.
    pub(crate) fn save<'a>(
        &self,
        resources: &Resources,
        before: u64,
        revision: u64,
        changes: impl Iterator<Item = &'a Change>,
    ) -> Result<(), String> {
        let mut slot = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match slot.take() {
            Some(database) => database,
            None => self.open_again(before)?,
        };
        write(&database, resources, revision, changes).map_err(|error| error.to_string())?;
        *slot = Some(database);
        Ok(())
    }

    /// Opens the file after a failed write. Refuses the file if the write is in it, because its client got an error.
    fn open_again(&self, before: u64) -> Result<Redb, String> {
        let opened = catch_unwind(AssertUnwindSafe(|| open(&self.file)));
        let database =
            opened.map_err(|_| "the database cannot be read".to_owned())?.map_err(|error| error.to_string())?;
        match stored_revision(&database) {
            Ok(None) if before <= FIRST_REVISIONS => Ok(database),
            Ok(Some(stored)) if stored == before => Ok(database),
            Ok(_) => Err("a write that failed is on the disk in part; restart the operator".into()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn stored_revision(database: &Redb) -> Result<Option<u64>, redb::Error> {
    let transaction = database.begin_read()?;
    match transaction.open_table(NUMBERS) {
        Ok(numbers) => Ok(numbers.get(REVISION)?.map(|number| number.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn write<'a>(
    database: &Redb,
    resources: &Resources,
    revision: u64,
    changes: impl Iterator<Item = &'a Change>,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(OBJECTS)?;
        for change in changes {
            let key = stored_key(resources, &change.key);
            match change.deed {
                Deed::Added | Deed::Modified(_) => {
                    table.insert(key.as_str(), change.object.to_string().as_bytes())?;
                }
                Deed::Deleted(_) => drop(table.remove(key.as_str())?),
            }
        }
        let mut numbers = transaction.open_table(NUMBERS)?;
        numbers.insert(FORMAT, THIS_FORMAT)?;
        numbers.insert(REVISION, revision)?;
    }
    transaction.commit()?;
    Ok(())
}

fn stored_key(resources: &Resources, key: &Key) -> String {
    let resource = resources.get(key.resource);
    [&resource.group, &resource.plural, &key.namespace, &key.name].map(String::as_str).join("/")
}

/// The objects of a database. None if it is new.
fn read(database: &Redb, resources: &Resources) -> Result<Option<Objects>, OpenError> {
    let failed = |error: redb::Error| OpenError::from(error);
    let storage = |error: StorageError| OpenError::from(redb::Error::from(error));
    let transaction = database.begin_read().map_err(|error| failed(error.into()))?;
    let numbers = match transaction.open_table(NUMBERS) {
        Ok(numbers) => numbers,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    };
    let number = |name: &str| -> Result<u64, OpenError> {
        let found = numbers.get(name).map_err(storage)?;
        found.map(|number| number.value()).ok_or_else(|| OpenError::Damaged(format!("it has no {name}")))
    };
    match number(FORMAT)? {
        THIS_FORMAT => {}
        newer => return Err(OpenError::Newer(newer)),
    }
    let table = transaction.open_table(OBJECTS).map_err(|error| failed(error.into()))?;
    let mut objects = Vec::new();
    for entry in table.iter().map_err(storage)? {
        let (key, object) = entry.map_err(storage)?;
        let damaged = |why: &str| OpenError::Damaged(format!("{}: {why}", key.value()));
        let object: Value = serde_json::from_slice(object.value()).map_err(|error| damaged(&error.to_string()))?;
        let [group, plural, namespace, name] = key.value().split('/').collect::<Vec<_>>()[..] else {
            return Err(damaged("no name of an object"));
        };
        let resource = resources.find_any(group, plural).ok_or_else(|| damaged("an object of an unknown kind"))?;
        objects.push((Key { resource, namespace: namespace.into(), name: name.into() }, object));
    }
    Ok(Some(Objects::restored(number(REVISION)?, objects)))
}
