//! Writes a bundle: as an archive, or as a folder. Its owner alone can read it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use tar::{Builder, EntryType, Header};

use super::contents::BundleFile;

/// The endings of archives.
const ARCHIVE_ENDINGS: [&str; 2] = [".tar.gz", ".tgz"];
/// The rights of a file and of a folder.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// Whether something is at the path of a bundle.
pub(super) fn is_taken(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Writes a new bundle. If that fails half-way, nothing stays.
///
/// # Errors
/// The path is taken, or cannot be written.
pub(super) fn write(path: &Path, files: &[BundleFile], now: Timestamp) -> io::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(folder) = ARCHIVE_ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)) else {
        new_folder(path)?;
        return write_folder(path, files).inspect_err(|_| drop(fs::remove_dir_all(path)));
    };
    let folder = if folder.is_empty() { "muster-support" } else { folder };
    let file = new_file(path)?;
    write_archive(file, folder, files, now).inspect_err(|_| drop(fs::remove_file(path)))
}

fn new_file(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)
}

fn new_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(FOLDER_MODE).create(path)
}

fn write_folder(path: &Path, files: &[BundleFile]) -> io::Result<()> {
    for file in files {
        let target = path.join(&file.path);
        if let Some(parent) = target.parent() {
            DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(parent)?;
        }
        new_file(&target)?.write_all(file.text.as_bytes())?;
    }
    Ok(())
}

/// All files below one folder, so that they stay together where somebody unpacks them.
fn write_archive(target: impl Write, folder: &str, files: &[BundleFile], now: Timestamp) -> io::Result<()> {
    let mut archive = Builder::new(GzEncoder::new(target, Compression::default()));
    for file in files {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(FILE_MODE);
        header.set_mtime(u64::try_from(now.as_second()).unwrap_or_default());
        header.set_size(u64::try_from(file.text.len()).unwrap_or_default());
        archive.append_data(&mut header, Path::new(folder).join(&file.path), file.text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn files() -> Vec<BundleFile> {
        let file = |path: &str, text: &str| BundleFile { path: path.into(), text: text.into() };
        vec![file("a.txt", "one\n"), file("operator/logs/b.log", "two\n")]
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn an_archive_has_the_files_in_one_folder_and_is_for_its_owner_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("b.tar.gz");
        write(&path, &files(), Timestamp::UNIX_EPOCH).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(&path).unwrap()));
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().display().to_string(), text)
        });
        let expected = [("b/a.txt", "one\n"), ("b/operator/logs/b.log", "two\n")];
        assert_eq!(entries.collect::<Vec<_>>(), expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
        assert_eq!(mode(&path), FILE_MODE);
    }

    #[test]
    fn a_folder_has_the_same_files_and_is_for_its_owner_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("b");
        write(&path, &files(), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(fs::read_to_string(path.join("operator/logs/b.log")).unwrap(), "two\n");
        assert_eq!((mode(&path), mode(&path.join("operator")), mode(&path.join("a.txt"))), (0o700, 0o700, 0o600));
    }

    #[test]
    fn what_exists_is_kept() {
        let place = tempfile::tempdir().unwrap();
        for name in ["b.tgz", "b"] {
            let path = place.path().join(name);
            fs::write(&path, "mine").unwrap();
            let error = write(&path, &files(), Timestamp::UNIX_EPOCH).unwrap_err();
            assert_eq!(
                (error.kind(), fs::read_to_string(&path).unwrap().as_str()),
                (io::ErrorKind::AlreadyExists, "mine")
            );
            assert!(is_taken(&path));
        }
    }
}
