//! The files that `-f` names.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The name of standard input.
const STDIN: &str = "-";
/// Files of a folder with other endings are left out.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// A file with manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ManifestFile {
    /// The file as messages name it.
    pub(super) name: String,
    /// The text.
    pub(super) text: String,
}

/// The files of these paths, and sentences about those that cannot be read. A folder is read with the folders in it, in the order of the
/// names, without hidden files.
pub(super) fn read(paths: &[PathBuf], input: &mut dyn Read) -> (Vec<ManifestFile>, Vec<String>) {
    let (mut files, mut failures) = (Vec::new(), Vec::new());
    for path in paths {
        if path.as_os_str() == STDIN {
            let mut text = String::new();
            match input.read_to_string(&mut text) {
                Ok(_) => files.push(ManifestFile { name: "standard input".into(), text }),
                Err(error) => failures.push(format!("standard input: {error}")),
            }
            continue;
        }
        match paths_of(path) {
            Ok(found) if found.is_empty() => {
                failures.push(format!("{}: the folder has no *.yaml, *.yml or *.json", path.display()));
            }
            Ok(found) => {
                for path in found {
                    let name = path.display().to_string();
                    match fs::read_to_string(&path) {
                        Ok(text) => files.push(ManifestFile { name, text }),
                        Err(error) => failures.push(format!("{name}: {error}")),
                    }
                }
            }
            Err(error) => failures.push(format!("{}: {error}", path.display())),
        }
    }
    (files, failures)
}

/// The path of a file, or those of the files of a folder.
fn paths_of(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut entries: Vec<_> = fs::read_dir(path)?.collect::<Result<_, _>>()?;
    entries.retain(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut found = Vec::new();
    for entry in entries {
        // A link to a folder may lead back here, and is not followed.
        if entry.file_type()?.is_dir() {
            found.extend(paths_of(&entry.path())?);
        } else if entry.path().extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known)) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_with_its_folders_in_the_order_of_the_names() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["b.yaml", "a/2.json", "a/1.yml", "c.txt", ".hidden.yaml", ".git/x.yaml"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "text").unwrap();
        }
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop.yaml")).unwrap();
        let (files, failures) = read(&[folder.path().to_owned()], &mut std::io::empty());
        let prefix = format!("{}/", folder.path().display());
        let names: Vec<_> = files.iter().filter_map(|file| file.name.strip_prefix(&prefix)).collect();
        assert_eq!(names, ["a/1.yml", "a/2.json", "b.yaml"]);
        assert!(failures.len() == 1 && failures[0].contains("loop.yaml"), "{failures:?}");
    }

    #[test]
    fn a_file_has_any_ending_and_standard_input_is_a_dash() {
        let file = tempfile::NamedTempFile::with_suffix(".txt").unwrap();
        let paths = ["-".into(), file.path().to_owned(), "/nowhere".into()];
        let (files, failures) = read(&paths, &mut "piped".as_bytes());
        assert_eq!((files.len(), files[0].text.as_str()), (2, "piped"));
        assert!(failures.len() == 1 && failures[0].starts_with("/nowhere: "), "{failures:?}");
        let empty = tempfile::tempdir().unwrap();
        let (_, failures) = read(&[empty.path().to_owned()], &mut std::io::empty());
        assert!(failures[0].ends_with("the folder has no *.yaml, *.yml or *.json"), "{failures:?}");
    }
}
