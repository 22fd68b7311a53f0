//! What the files say, file by file: parsed again only where the text changed. A change for the worse leaves the last good
//! version of the objects concerned in force. Which of two objects of one name counts is decided here, so that the world
//! sees every name once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use mesh_core::api::{self, ApiObject, Positions};
use mesh_core::diag::{self, Diagnostic, Severity};
use mesh_core::object::ObjectRef;

/// A file, in the order in which files count: a later one wins.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName {
    /// Index of the path that the user gave.
    pub root: usize,
    /// As shown to the user.
    pub path: Arc<str>,
}

impl FileName {
    pub fn new(root: usize, path: &str) -> FileName {
        FileName { root, path: path.into() }
    }
}

/// All files.
pub struct Documents {
    default_namespace: String,
    files: BTreeMap<FileName, File>,
    /// Which files have an object of this name.
    owners: HashMap<ObjectRef, BTreeSet<FileName>>,
    duplicates: BTreeSet<ObjectRef>,
    /// Names that may mean something else than at the last [`Documents::take_changes`].
    touched: HashSet<ObjectRef>,
    hasher: RandomState,
}

#[derive(Default)]
struct File {
    hash: u64,
    /// Mostly one of a name; the last one counts.
    objects: BTreeMap<ObjectRef, Vec<ApiObject>>,
    /// Objects in force that had errors already when they came.
    faulty: HashSet<ObjectRef>,
    diagnostics: Vec<Diagnostic>,
    /// What is wrong with the file as such.
    trouble: Option<Diagnostic>,
}

/// What became different.
#[derive(Debug, Default)]
pub struct Changes {
    pub apply: Vec<ApiObject>,
    pub remove: Vec<ObjectRef>,
}

impl Documents {
    pub fn new(default_namespace: &str) -> Documents {
        Documents {
            default_namespace: default_namespace.to_owned(),
            files: BTreeMap::new(),
            owners: HashMap::new(),
            duplicates: BTreeSet::new(),
            touched: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// New text of a file. False: it says what it said before.
    pub fn update(&mut self, name: &FileName, text: &str) -> bool {
        let hash = self.hasher.hash_one(text);
        if let Some(file) = self.files.get_mut(name)
            && file.hash == hash
        {
            return file.trouble.take().is_some();
        }
        let parsed = api::parse(&name.path, text, &self.default_namespace);
        let previous = self.files.remove(name).unwrap_or_default();
        self.forget(name, &previous);
        let file = merge(hash, parsed, previous);
        for reference in file.objects.keys() {
            self.owners.entry(reference.clone()).or_default().insert(name.clone());
            self.touched.insert(reference.clone());
        }
        self.files.insert(name.clone(), file);
        true
    }

    /// The file is gone. False: it never was there.
    pub fn remove(&mut self, name: &FileName) -> bool {
        let Some(file) = self.files.remove(name) else { return false };
        self.forget(name, &file);
        true
    }

    /// The file cannot be read: what it said before stays in force. False: that is known already.
    pub fn trouble(&mut self, name: &FileName, diagnostic: Diagnostic) -> bool {
        let file = self.files.entry(name.clone()).or_default();
        if file.trouble.as_ref() == Some(&diagnostic) {
            return false;
        }
        file.trouble = Some(diagnostic);
        true
    }

    /// Whether the file has objects in force.
    pub fn has_objects(&self, name: &FileName) -> bool {
        self.files.get(name).is_some_and(|file| !file.objects.is_empty())
    }

    pub fn names(&self) -> impl Iterator<Item = &FileName> {
        self.files.keys()
    }

    /// Names of the objects in force.
    pub fn references(&self) -> impl Iterator<Item = &ObjectRef> {
        self.owners.keys()
    }

    /// Where the objects of these kinds are written.
    pub fn positions(&self, kinds: &[&str]) -> HashMap<ObjectRef, Positions> {
        let wanted = self.references().filter(|reference| kinds.contains(&&*reference.kind));
        wanted.filter_map(|wanted| Some((wanted.clone(), self.given(wanted).last()?.positions.clone()))).collect()
    }

    /// What to do with a world that is as it was at the last call.
    pub fn take_changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        let mut touched: Vec<ObjectRef> = std::mem::take(&mut self.touched).into_iter().collect();
        touched.sort();
        for reference in touched {
            let given: Vec<&ApiObject> = self.given(&reference).collect();
            match given.last() {
                Some(object) => changes.apply.push((*object).clone()),
                None => changes.remove.push(reference.clone()),
            }
            if given.len() > 1 {
                self.duplicates.insert(reference);
            } else {
                self.duplicates.remove(&reference);
            }
        }
        changes
    }

    /// In the order of the files.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let of_files = self.files.values().flat_map(|file| file.trouble.iter().chain(&file.diagnostics)).cloned();
        of_files.chain(self.duplicates.iter().filter_map(|reference| self.duplicate(reference))).collect()
    }

    /// All objects of one name; the last one counts.
    fn given<'a>(&'a self, reference: &'a ObjectRef) -> impl Iterator<Item = &'a ApiObject> {
        let files = self.owners.get(reference).into_iter().flatten().filter_map(|name| self.files.get(name));
        files.filter_map(|file| file.objects.get(reference)).flatten()
    }

    fn duplicate(&self, reference: &ObjectRef) -> Option<Diagnostic> {
        let mut given: Vec<&ApiObject> = self.given(reference).collect();
        let counts = given.pop()?;
        let place = given.pop()?.position("").map_or_else(String::new, |at| format!(" at {at}"));
        Some(
            Diagnostic::new(diag::DUPLICATE_OBJECT, format!("it is already given{place}; this one counts"))
                .object(reference)
                .at(counts.position(""))
                .help("remove one of them, or give it another name"),
        )
    }

    fn forget(&mut self, name: &FileName, file: &File) {
        for reference in file.objects.keys() {
            if let Some(owners) = self.owners.get_mut(reference) {
                owners.remove(name);
                if owners.is_empty() {
                    self.owners.remove(reference);
                }
            }
            self.touched.insert(reference.clone());
        }
    }
}

/// Takes the new version of every object that is no worse than the old one.
fn merge(hash: u64, parsed: api::Parsed, previous: File) -> File {
    let mut diagnostics = parsed.diagnostics;
    let errors = || diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    let wrong: HashSet<ObjectRef> = errors().filter_map(|diagnostic| diagnostic.object.clone()).collect();
    let nameless = errors().any(|diagnostic| diagnostic.object.is_none());

    let mut old = previous.objects;
    let mut file = File { hash, ..File::default() };
    let mut kept = HashSet::new();
    for object in parsed.objects {
        let reference = object.object_ref();
        let is_wrong = wrong.contains(&reference);
        match old.remove(&reference) {
            Some(before) if is_wrong && !previous.faulty.contains(&reference) => {
                kept.insert(reference.clone());
                file.objects.insert(reference, before);
            }
            // The second one of a document whose first one was not good enough.
            _ if kept.contains(&reference) => {}
            _ => {
                if is_wrong {
                    file.faulty.insert(reference.clone());
                }
                file.objects.entry(reference).or_default().push(object);
            }
        }
    }
    // Named by a document that could not be read at all, or possibly meant by one that does not even say its name.
    for (reference, objects) in old {
        if nameless || wrong.contains(&reference) {
            if previous.faulty.contains(&reference) {
                file.faulty.insert(reference.clone());
            }
            kept.insert(reference.clone());
            file.objects.insert(reference, objects);
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
        None => "until then the previous version of what it replaces stays in force",
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
