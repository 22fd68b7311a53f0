use std::fs;
use std::os::unix::fs::symlink;

use super::*;

fn names(tree: &Tree, base: &Path) -> Vec<String> {
    tree.files.keys().map(|path| path.strip_prefix(base).unwrap().display().to_string()).collect()
}

#[test]
fn configuration_files_are_found_and_others_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    fs::create_dir_all(base.join("sub/deeper")).unwrap();
    fs::create_dir(base.join(".git")).unwrap();
    for name in ["a.yaml", "b.yml", "sub/c.json", "sub/deeper/d.yaml", "e.txt", ".a.yaml.swp", ".f.yaml", ".git/g.yaml"]
    {
        fs::write(base.join(name), "").unwrap();
    }
    symlink(base, base.join("sub/circle")).unwrap();
    symlink("nowhere", base.join("h.yaml")).unwrap();
    let tree = Tree::scan(&[base.to_owned()]);
    assert_eq!(names(&tree, base), ["a.yaml", "b.yml", "sub/c.json", "sub/deeper/d.yaml"]);
    assert!(tree.problems.is_empty());
    assert!(tree.walked.contains(&base.join("sub/deeper")));
}

#[test]
fn a_named_file_needs_no_extension_and_a_missing_one_is_a_problem() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    fs::write(base.join("plain"), "").unwrap();
    let tree = Tree::scan(&[base.join("plain"), base.join("missing")]);
    assert_eq!(names(&tree, base), ["plain"]);
    assert_eq!(tree.problems.len(), 1);
    assert_eq!(tree.problems[0].0, 1);
    assert!(tree.directories.contains_key(base));
}

#[test]
fn a_swapped_link_looks_changed() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    for version in ["..1", "..2"] {
        fs::create_dir(base.join(version)).unwrap();
        fs::write(base.join(version).join("a.yaml"), "same").unwrap();
    }
    symlink("..1", base.join("..data")).unwrap();
    symlink("..data/a.yaml", base.join("a.yaml")).unwrap();
    let before = Tree::scan(&[base.to_owned()]);
    assert_eq!(names(&before, base), ["a.yaml"]);
    symlink("..2", base.join("..new")).unwrap();
    fs::rename(base.join("..new"), base.join("..data")).unwrap();
    let after = Tree::scan(&[base.to_owned()]);
    assert_ne!(before.files, after.files);
}
