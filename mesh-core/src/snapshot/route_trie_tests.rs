use std::sync::Arc;

use super::{Entry, Node};

fn count(node: &Node) -> usize {
    1 + node.children.iter().map(|child| count(child)).sum::<usize>()
}

fn insert(root: &mut Node, key: &str, slot: u32) {
    root.edit(key.as_bytes(), |node| node.prefix.push(Entry::new(slot, true)));
}

fn remove(root: &mut Node, key: &str) {
    root.edit(key.as_bytes(), |node| node.prefix.clear());
    root.prune(key.as_bytes());
}

fn on_the_way(root: &Node, path: &str) -> Vec<u32> {
    let mut slots = Vec::new();
    root.walk::<false>(path.as_bytes(), |node, _| slots.extend(node.prefix.iter().map(|entry| entry.slot())));
    slots
}

#[test]
fn every_prefix_is_on_the_way() {
    let mut root = Node::default();
    for (key, slot) in [("/abc/d", 0), ("/abc", 1), ("", 2), ("/abd", 3), ("/x", 4), ("/abc/dé", 5)] {
        insert(&mut root, key, slot);
    }
    assert_eq!(on_the_way(&root, "/abc/dé/f"), [2, 1, 0, 5]);
    assert_eq!(on_the_way(&root, "/abc"), [2, 1]);
    assert_eq!(on_the_way(&root, "/ab"), [2]);
    assert_eq!(on_the_way(&root, ""), [2]);
}

#[test]
fn nothing_is_left_of_what_is_removed() {
    let mut root = Node::default();
    let keys = ["/a/b/c", "/a/b/d", "/a", "/a/b/c/e", "/x/y", "/x/z"];
    for (key, slot) in keys.iter().zip(0..) {
        insert(&mut root, key, slot);
    }
    let before = Arc::new(root.clone());
    for key in &keys[1..] {
        remove(&mut root, key);
    }
    assert_eq!(on_the_way(&root, "/a/b/c/e"), [0]);
    assert_eq!(count(&root), 2, "the root and one node with the whole key");
    remove(&mut root, keys[0]);
    assert_eq!(count(&root), 1);
    assert_eq!(on_the_way(&before, "/a/b/c/e"), [2, 0, 3], "the older generation is as it was");
}

/// Neither an edit nor the end of a deep trie runs through the stack.
#[test]
fn a_deep_trie_comes_and_goes() {
    let path = "x".repeat(20_000);
    let mut root = Node::default();
    for length in (1..path.len()).step_by(4) {
        insert(&mut root, &path[..length], 1);
    }
    assert_eq!(on_the_way(&root, &path).len(), 5_000);
    remove(&mut root, &path[..10_001]);
    assert_eq!(on_the_way(&root, &path).len(), 4_999);
    std::thread::Builder::new().stack_size(128 << 10).spawn(move || drop(root)).unwrap().join().unwrap();
}
