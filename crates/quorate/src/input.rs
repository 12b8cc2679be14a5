//! Where manifests come from: files, folders, standard input.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// The name of standard input, as a path and in reports.
pub const STDIN: &str = "-";

/// The largest input in bytes: 1 GiB. What it holds takes several times as much memory.
pub const MAX_SIZE: u64 = 1 << 30;

/// The endings that a file in a folder is taken by.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// One input of a check.
#[derive(Debug)]
pub struct Input {
    /// What reports call it.
    pub name: String,
    /// Where its text is.
    pub content: Content,
    /// Whether it was found in a folder, rather than named: then it may be something else than a manifest.
    pub found: bool,
}

/// Where the text of an input is.
#[derive(Debug)]
pub enum Content {
    /// In a file.
    File(PathBuf),
    /// In standard input.
    Stdin,
    /// Here.
    Text(Vec<u8>),
    /// Nowhere: why it cannot be read.
    Unreadable(String),
}

impl Input {
    /// Its bytes.
    ///
    /// # Errors
    /// Why they cannot be read, for a person.
    pub(crate) fn read(&self) -> Result<Cow<'_, [u8]>, String> {
        match &self.content {
            Content::File(path) => {
                let file = File::open(path).map_err(|error| cannot_read(&error))?;
                // A pipe has no length; a file may grow while it is read.
                let length = file.metadata().map_or(0, |metadata| metadata.len());
                read_all(file, length).map(Cow::Owned)
            }
            Content::Stdin => read_all(io::stdin().lock(), 0).map(Cow::Owned),
            Content::Text(text) => Ok(Cow::Borrowed(text)),
            Content::Unreadable(reason) => Err(reason.clone()),
        }
    }
}

fn read_all(from: impl Read, length: u64) -> Result<Vec<u8>, String> {
    let too_large = || "larger than 1 GiB: split it".to_owned();
    if length > MAX_SIZE {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    from.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(|error| cannot_read(&error))?;
    if bytes.len() as u64 > MAX_SIZE { Err(too_large()) } else { Ok(bytes) }
}

fn cannot_read(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file or folder".to_owned(),
        ErrorKind::IsADirectory => "cannot be read: it is a folder".to_owned(),
        _ => {
            let text = error.to_string();
            let reason = text.rsplit_once(" (os error").map_or(text.as_str(), |(reason, _)| reason);
            format!("cannot be read: {reason}")
        }
    }
}

/// The inputs that `paths` name, in their order; those of a folder by name, folders below it included.
///
/// In folders, files that end in `.yaml`, `.yml` or `.json` are taken; hidden files and folders are not; links are followed, each
/// folder is entered once. A file that is reached in two ways is read once. A path that cannot be read is an input too, one
/// that says so.
pub fn find(paths: &[PathBuf]) -> Vec<Input> {
    let mut search = Search::default();
    for path in paths {
        if path.as_os_str() == STDIN {
            search.add(STDIN.to_owned(), Content::Stdin, PathBuf::from(STDIN), false);
        } else {
            search.path(path);
        }
    }
    search.inputs
}

#[derive(Default)]
struct Search {
    inputs: Vec<Input>,
    /// Files by what they really are.
    seen: HashSet<PathBuf>,
}

impl Search {
    fn add(&mut self, name: String, content: Content, real: PathBuf, found: bool) {
        if self.seen.insert(real) {
            self.inputs.push(Input { name, content, found });
        }
    }

    fn unreadable(&mut self, path: &Path, reason: String) {
        self.add(name_of(path), Content::Unreadable(reason), path.to_owned(), false);
    }

    fn path(&mut self, path: &Path) {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.folder(path),
            Ok(_) => self.file(path, false),
            Err(error) => self.unreadable(path, cannot_read(&error)),
        }
    }

    fn file(&mut self, path: &Path, found: bool) {
        match fs::canonicalize(path) {
            Ok(real) => self.add(name_of(path), Content::File(path.to_owned()), real, found),
            // A pipe of the shell (`/dev/fd/63`) is readable and has no path of its own.
            Err(_) => self.add(name_of(path), Content::File(path.to_owned()), path.to_owned(), found),
        }
    }

    fn folder(&mut self, folder: &Path) {
        let mut entered = HashSet::new();
        let entries = WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter().filter_entry(|entry| {
            let hidden = entry.depth() > 0 && is_hidden(entry.path());
            // Links could lead into one folder along very many paths.
            let again =
                entry.file_type().is_dir() && fs::canonicalize(entry.path()).is_ok_and(|real| !entered.insert(real));
            !hidden && !again
        });
        let mut candidates = 0;
        for entry in entries {
            match entry {
                Ok(entry) if entry.file_type().is_dir() || !is_manifest(entry.path()) => {}
                Ok(entry) => {
                    candidates += 1;
                    self.file(entry.path(), true);
                }
                // What the circle leads back to is read already.
                Err(error) if error.loop_ancestor().is_some() => {}
                Err(error) => {
                    let path = error.path().unwrap_or(folder);
                    let link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
                    if is_hidden(path) || link && !is_manifest(path) {
                        continue;
                    }
                    candidates += 1;
                    let reason = match error.io_error() {
                        Some(error) if link && error.kind() == ErrorKind::NotFound => {
                            "cannot be read: it is a link to nothing".to_owned()
                        }
                        Some(error) => cannot_read(error),
                        None => "cannot be read".to_owned(),
                    };
                    self.unreadable(path, reason);
                }
            }
        }
        if candidates == 0 {
            self.unreadable(folder, "there is no manifest in this folder (.yaml, .yml or .json)".to_owned());
        }
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// The path as it was given, without a leading `./`.
fn name_of(path: &Path) -> String {
    let short = path.strip_prefix(".").ok().filter(|short| !short.as_os_str().is_empty() && short.as_os_str() != STDIN);
    short.unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path, paths: &[&str]) -> Vec<String> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| folder.join(path)).collect();
        let prefix = format!("{}/", folder.display());
        find(&paths).iter().map(|input| input.name.replace(&prefix, "")).collect()
    }

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    #[test]
    fn a_folder_gives_its_manifests_by_name() {
        let folder = folder(&[
            "b.yml",
            "a.yaml",
            "c.JSON",
            "x.txt",
            "yaml",
            ".hidden.yaml",
            ".git/a.yaml",
            "sub/d.yaml",
            "x.yaml/e.yaml",
        ]);
        assert_eq!(names(folder.path(), &[""]), ["a.yaml", "b.yml", "c.JSON", "sub/d.yaml", "x.yaml/e.yaml"]);
        // What is named is taken, whatever it is called.
        assert_eq!(names(folder.path(), &["x.txt", ".git"]), ["x.txt", ".git/a.yaml"]);
    }

    #[test]
    fn a_file_is_read_once_in_the_order_of_the_paths() {
        let folder = folder(&["a.yaml", "b.yaml"]);
        assert_eq!(names(folder.path(), &["b.yaml", "", "a.yaml", "./b.yaml"]), ["b.yaml", "a.yaml"]);
    }

    #[test]
    fn what_cannot_be_read_is_an_input_that_says_so() {
        let folder = folder(&["empty/x.txt"]);
        let reason = |path: &str| match &find(&[folder.path().join(path)])[0].content {
            Content::Unreadable(reason) => reason.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(reason("missing"), "there is no such file or folder");
        assert_eq!(reason("empty"), "there is no manifest in this folder (.yaml, .yml or .json)");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_circles_end() {
        use std::os::unix::fs::symlink;
        let folder = folder(&["real/a.yaml"]);
        symlink(folder.path(), folder.path().join("real/circle")).unwrap();
        symlink("real", folder.path().join("again")).unwrap();
        symlink("nowhere.yaml", folder.path().join("dangling.yaml")).unwrap();
        symlink("nowhere", folder.path().join("dangling")).unwrap();
        assert_eq!(names(folder.path(), &[""]), ["again/a.yaml", "dangling.yaml"]);
        let reason = find(&[folder.path().to_owned()]).pop().unwrap().read().unwrap_err();
        assert_eq!(reason, "cannot be read: it is a link to nothing");
    }

    #[test]
    fn an_endless_or_huge_input_ends_at_the_limit() {
        assert!(read_all(io::empty(), MAX_SIZE + 1).unwrap_err().contains("1 GiB"));
        assert_eq!(read_all(&b"abc"[..], 1).unwrap(), b"abc");
    }

    #[test]
    fn names_are_as_given() {
        let name = |path: &str| name_of(Path::new(path));
        assert_eq!(
            ["./a/b.yaml", "a/b.yaml", "../b.yaml", "./-", "."].map(name),
            ["a/b.yaml", "a/b.yaml", "../b.yaml", "./-", "."]
        );
    }
}
