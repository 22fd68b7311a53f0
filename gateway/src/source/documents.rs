//! What the files say, file by file: parsed again only where the text changed. A change for the worse leaves the last good
//! version of the objects concerned in force.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use mesh_core::api::{self, ApiObject};
use mesh_core::diag::{Diagnostic, Severity};
use mesh_core::object::ObjectRef;

/// All files.
pub struct Documents {
    default_namespace: String,
    files: BTreeMap<Arc<str>, File>,
    hasher: RandomState,
}

#[derive(Default)]
struct File {
    hash: u64,
    objects: Vec<Arc<ApiObject>>,
    /// Objects in force that had errors already when they came.
    faulty: HashSet<ObjectRef>,
    diagnostics: Vec<Diagnostic>,
    /// What is wrong with the file as such.
    trouble: Option<Diagnostic>,
}

impl Documents {
    pub fn new(default_namespace: &str) -> Documents {
        Documents { default_namespace: default_namespace.to_owned(), files: BTreeMap::new(), hasher: RandomState::new() }
    }

    /// New text of a file. False: it says what it said before.
    pub fn update(&mut self, name: &str, text: &str) -> bool {
        let hash = self.hasher.hash_one(text);
        if let Some(file) = self.files.get_mut(name)
            && file.hash == hash
        {
            return file.trouble.take().is_some();
        }
        let parsed = api::parse(name, text, &self.default_namespace);
        let previous = self.files.remove(name).unwrap_or_default();
        self.files.insert(name.into(), merge(hash, parsed, previous));
        true
    }

    /// The file is gone. False: it never was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.files.remove(name).is_some()
    }

    /// The file cannot be read: what it said before stays in force. False: that is known already.
    pub fn trouble(&mut self, name: &str, diagnostic: Diagnostic) -> bool {
        let file = self.files.entry(name.into()).or_default();
        if file.trouble.as_ref() == Some(&diagnostic) {
            return false;
        }
        file.trouble = Some(diagnostic);
        true
    }

    /// Whether the file has objects in force.
    pub fn has_objects(&self, name: &str) -> bool {
        self.files.get(name).is_some_and(|file| !file.objects.is_empty())
    }

    /// Objects in force, in the order of the files' names.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<ApiObject>> {
        self.files.values().flat_map(|file| &file.objects)
    }

    pub fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.files.values().flat_map(|file| file.trouble.iter().chain(&file.diagnostics))
    }
}

/// Takes the new version of every object that is no worse than the old one.
fn merge(hash: u64, parsed: api::Parsed, previous: File) -> File {
    let mut diagnostics = parsed.diagnostics;
    let errors = || diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    let wrong: HashSet<ObjectRef> = errors().filter_map(|diagnostic| diagnostic.object.clone()).collect();
    let nameless = errors().any(|diagnostic| diagnostic.object.is_none());

    let mut old: BTreeMap<ObjectRef, Arc<ApiObject>> =
        previous.objects.into_iter().map(|object| (object.object_ref(), object)).collect();
    let mut file = File { hash, ..File::default() };
    let mut kept = HashSet::new();
    for object in parsed.objects {
        let reference = object.object_ref();
        let before = old.remove(&reference);
        match before {
            Some(before) if wrong.contains(&reference) && !previous.faulty.contains(&reference) => {
                kept.insert(reference);
                file.objects.push(before);
            }
            _ => {
                if wrong.contains(&reference) {
                    file.faulty.insert(reference);
                }
                file.objects.push(Arc::new(object));
            }
        }
    }
    // Named by a document that could not be read at all, or possibly meant by one that does not even say its name.
    for (reference, object) in old {
        if nameless || wrong.contains(&reference) {
            if previous.faulty.contains(&reference) {
                file.faulty.insert(reference.clone());
            }
            kept.insert(reference);
            file.objects.push(object);
        }
    }
    for diagnostic in &mut diagnostics {
        note_kept(diagnostic, &kept);
    }
    file.diagnostics = diagnostics;
    file
}

fn note_kept(diagnostic: &mut Diagnostic, kept: &HashSet<ObjectRef>) {
    if diagnostic.severity != Severity::Error || kept.is_empty() {
        return;
    }
    let note = match &diagnostic.object {
        Some(object) if kept.contains(object) => "until then its previous version stays in force",
        None => "until then the previous version of the objects of this file stays in force",
        Some(_) => return,
    };
    diagnostic.help = Some(match diagnostic.help.take() {
        Some(help) => format!("{help}; {note}"),
        None => note.to_owned(),
    });
}

#[cfg(test)]
#[path = "documents_tests.rs"]
mod tests;
