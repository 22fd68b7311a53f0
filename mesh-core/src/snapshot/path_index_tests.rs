use super::{Entry, PathIndex, lower_case};

fn insert(index: &mut PathIndex, key: &str, slot: u32) {
    index.edit(key.as_bytes(), |node| node.prefix.push(Entry::new(slot, true)));
}

fn remove(index: &mut PathIndex, key: &str) {
    index.edit(key.as_bytes(), |node| node.prefix.clear());
}

fn found(index: &PathIndex, path: &str) -> Vec<u32> {
    let mut slots = Vec::new();
    index.visit(path.as_bytes(), |node, _| slots.extend(node.prefix.iter().map(|entry| entry.slot())));
    slots
}

#[test]
fn every_beginning_is_found() {
    let mut index = PathIndex::new(false);
    let long = "/abc/d/with/a/long/way/to/go/until/the/end/of/the/key";
    for (key, slot) in [("/abc/d", 0), ("/abc", 1), ("", 2), ("/abd", 3), ("/x", 4), ("/abc/dé", 5), (long, 6)] {
        insert(&mut index, key, slot);
    }
    assert_eq!(found(&index, "/abc/dé/f"), [2, 1, 0, 5]);
    assert_eq!(found(&index, "/abc"), [2, 1]);
    assert_eq!(found(&index, "/ab"), [2]);
    assert_eq!(found(&index, ""), [2]);
    assert_eq!(found(&index, &format!("{long}!")), [2, 1, 0, 6]);
}

#[test]
fn any_case_is_found() {
    let mut index = PathIndex::new(true);
    insert(&mut index, "/abc/defghij[", 0);
    insert(&mut index, "/é", 1);
    assert_eq!(found(&index, "/ABC/dEFGHIJ[x"), [0]);
    assert_eq!(found(&index, "/ABC/dEFGHIJ{x"), [0; 0]);
    assert_eq!(found(&index, "/é"), [1]);
    assert_eq!(found(&index, "/É"), [0; 0], "ASCII only");
}

#[test]
fn eight_bytes_become_small_as_one_does() {
    for byte in 0..=u8::MAX {
        for at in 0..8 {
            let mut bytes = [b'Z', b'@', b'[', 0x80, 0xC1, 0, b'a', 0xFF];
            bytes[at] = byte;
            let small = bytes.map(|byte| byte.to_ascii_lowercase());
            assert_eq!(lower_case(u64::from_le_bytes(bytes)).to_le_bytes(), small);
        }
    }
}

#[test]
fn nothing_is_left_of_what_is_removed() {
    let mut index = PathIndex::new(false);
    let keys: Vec<String> = (0..300).map(|number| format!("/{number}")).collect();
    for (key, slot) in keys.iter().zip(0..) {
        insert(&mut index, key, slot);
    }
    let before = index.clone();
    for key in keys.iter().skip(1) {
        remove(&mut index, key);
    }
    assert_eq!(found(&index, "/0"), [0]);
    assert_eq!(found(&index, "/17"), [0; 0]);
    assert_eq!((index.heads.len(), index.lengths.as_slice()), (1, [(2, 1)].as_slice()));
    remove(&mut index, "/0");
    assert_eq!((index.heads.len(), index.lengths.len(), index.free.len()), (0, 0, 300));
    for (key, slot) in keys.iter().zip(0..) {
        insert(&mut index, key, slot);
    }
    assert_eq!(index.nodes.len(), 300, "places are used again");
    for (key, slot) in keys.iter().zip(0..) {
        assert!(found(&index, key).contains(&slot) && found(&before, key).contains(&slot));
    }
}

#[test]
fn exact_paths_cost_one_look() {
    let mut index = PathIndex::new(false);
    for length in 1..100 {
        index.edit("x".repeat(length).as_bytes(), |node| node.exact.push(Entry::new(1, true)));
    }
    assert!(index.lengths.is_empty());
    let mut ends = Vec::new();
    index.visit("x".repeat(50).as_bytes(), |_, end| ends.push(end));
    assert_eq!(ends, [true]);
}
