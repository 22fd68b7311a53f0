//! Objects from files, read once: by the same rules as a gateway that watches them.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use mesh_core::api::{self, ApiObject};
use mesh_core::diag::{self, Diagnostic};
use mesh_core::object::{ObjectRef, Position};

/// Directories deeper than this are not entered.
const MAX_DEPTH: usize = 32;

/// What files say.
#[derive(Debug, Default)]
pub struct FileObjects {
    pub objects: Vec<ApiObject>,
    /// What is wrong with objects alone, or with files.
    pub diagnostics: Vec<Diagnostic>,
}

/// Files and directories; `-` is standard input. What cannot be read is in the diagnostics.
#[must_use]
pub fn read(paths: &[PathBuf], default_namespace: &str) -> FileObjects {
    let mut files = Files { default_namespace, seen: HashSet::new(), found: FileObjects::default() };
    for path in paths {
        if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            let read = io::stdin().read_to_end(&mut bytes).map(|_| bytes);
            files.take("<stdin>", read);
        } else {
            files.start(path);
        }
    }
    files.found.settle();
    files.found
}

impl FileObjects {
    /// Of objects of one name the last one counts.
    fn settle(&mut self) {
        let mut given: BTreeMap<ObjectRef, Vec<ApiObject>> = BTreeMap::new();
        for object in std::mem::take(&mut self.objects) {
            given.entry(object.object_ref()).or_default().push(object);
        }
        for (reference, mut objects) in given {
            let Some(counts) = objects.pop() else { continue };
            if let Some(other) = objects.pop() {
                let place = other.position("").map_or_else(String::new, |at| format!(" at {at}"));
                let message = format!("it is already given{place}; this one counts");
                let found = Diagnostic::new(diag::DUPLICATE_OBJECT, message).object(&reference);
                self.diagnostics
                    .push(found.at(counts.position("")).help("remove one of them, or give it another name"));
            }
            self.objects.push(counts);
        }
    }
}

struct Files<'a> {
    default_namespace: &'a str,
    /// Each file counts once, however it is reached.
    seen: HashSet<PathBuf>,
    found: FileObjects,
}

impl Files<'_> {
    fn start(&mut self, path: &Path) {
        if path.is_dir() {
            self.directory(path, 0);
        } else {
            self.file(path);
        }
    }

    fn directory(&mut self, path: &Path, depth: usize) {
        let is_new = path.canonicalize().is_ok_and(|real| self.seen.insert(real));
        if depth > MAX_DEPTH || !is_new {
            return;
        }
        let entries = std::fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries: Vec<PathBuf> = match entries {
            Ok(entries) => entries.into_iter().map(|entry| entry.path()).collect(),
            Err(error) => return self.unreadable(&path.to_string_lossy(), &error),
        };
        entries.sort();
        for entry in entries {
            let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let extension = entry.extension().and_then(|extension| extension.to_str());
            if name.starts_with('.') {
                continue;
            }
            if entry.is_dir() {
                self.directory(&entry, depth + 1);
            } else if matches!(extension, Some("yaml" | "yml" | "json")) && entry.exists() {
                self.file(&entry);
            }
        }
    }

    fn file(&mut self, path: &Path) {
        if path.canonicalize().is_ok_and(|real| !self.seen.insert(real)) {
            return;
        }
        self.take(&path.to_string_lossy(), std::fs::read(path));
    }

    fn take(&mut self, name: &str, read: io::Result<Vec<u8>>) {
        match read.and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other)) {
            Ok(text) => {
                let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
                let parsed = api::parse(name, text, self.default_namespace);
                self.found.objects.extend(parsed.objects);
                self.found.diagnostics.extend(parsed.diagnostics);
            }
            Err(error) => self.unreadable(name, &error),
        }
    }

    fn unreadable(&mut self, name: &str, error: &io::Error) {
        let position = Position { file: name.into(), line: 1, column: 1 };
        let diagnostic = Diagnostic::new(diag::SOURCE_UNREADABLE, format!("{name}: {error}"));
        self.found.diagnostics.push(diagnostic.at(Some(position)));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    const SERVICE: &str =
        "{ apiVersion: v1, kind: Service, metadata: { name: NAME }, spec: { ports: [{ port: 80 }] } }";

    #[test]
    fn directories_are_walked_in_order_and_files_count_once() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let object = Path::new(name).file_stem().unwrap().to_string_lossy().replace('.', "");
            std::fs::write(path, SERVICE.replace("NAME", &object)).unwrap();
        };
        ["b.yaml", "a.json", "deep/c.yml", ".hidden.yaml", "notes.txt"].iter().for_each(|name| write(name));
        let found = read(&[dir.path().join("b.yaml"), dir.path().to_owned()], "default");
        let names: Vec<_> = found.objects.iter().map(|object| object.meta.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(found.diagnostics, []);
    }

    #[test]
    fn the_last_of_a_name_counts() {
        let dir = tempfile::tempdir().unwrap();
        for (name, port) in [("1.yaml", "80"), ("2.yaml", "81"), ("3.yaml", "82")] {
            std::fs::write(dir.path().join(name), SERVICE.replace("NAME", "a").replace("80", port)).unwrap();
        }
        let found = read(&[dir.path().to_owned()], "default");
        let [object] = found.objects.as_slice() else { panic!("{:?}", found.objects) };
        assert!(object.position("").unwrap().file.ends_with("3.yaml"));
        let [diagnostic] = found.diagnostics.as_slice() else { panic!("{:?}", found.diagnostics) };
        assert!(diagnostic.message.contains("2.yaml:1:1; this one counts"), "{}", diagnostic.message);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("bad.yaml"), [0xff, 0xfe]).unwrap();
        let found = read(&[dir.path().join("gone.yaml"), dir.path().join("bad.yaml")], "default");
        let codes: Vec<_> = found.diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
        assert_eq!(codes, [diag::SOURCE_UNREADABLE.id; 2]);
    }
}
