//! `docs/protocol.md` states what the code does.

use marea_swarm::{
    pieces::ObjectHasher,
    tags::{ObjectKind, ObjectTag, Tag},
    vectors,
};

const PROTOCOL: &str = include_str!("../../docs/protocol.md");

#[test]
fn the_document_holds_every_vector() {
    let vectors: Vec<&str> =
        vectors::WIRE_1.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(!vectors.is_empty());
    for vector in vectors {
        assert!(PROTOCOL.lines().any(|line| line == vector), "{vector} is missing or differs");
    }
}

#[test]
fn the_document_holds_the_tag_of_its_object() {
    let bytes: Vec<u8> = (0..150_000u32).map(|at| (at % 251) as u8).collect();
    let mut hasher = ObjectHasher::new();
    hasher.update(&bytes);
    let root = hasher.finish().root;
    let tag = Tag::Object(ObjectKind::Segment, ObjectTag { size: 150_000, root, at: None }).to_string();
    assert!(PROTOCOL.lines().any(|line| line == tag), "{tag}");
}
