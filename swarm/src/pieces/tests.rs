use proptest::prelude::*;

use super::*;
use crate::ids::piece_len;

const PIECE: usize = PIECE_SIZE as usize;

/// Bytes of which no two pieces are equal.
fn object(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i / PIECE * 7 + i % 251) as u8).collect()
}

/// Hashes every piece by itself.
fn list_of(bytes: &[u8]) -> Vec<Cv> {
    let count = piece_count(bytes.len() as u64);
    (0..).zip(bytes.chunks(PIECE)).map(|(piece, bytes)| hash_piece(bytes, piece, count)).collect()
}

fn hashed(bytes: &[u8], step: usize) -> HashedObject {
    let mut hasher = ObjectHasher::new();
    bytes.chunks(step.max(1)).for_each(|part| hasher.update(part));
    hasher.finish()
}

fn plain_root(bytes: &[u8]) -> Root {
    Root(*blake3::hash(bytes).as_bytes())
}

#[test]
fn the_list_merges_to_plain_blake3_at_every_border() {
    for pieces in [1, 2, 3, 4, 5, 7, 8, 9, 16, 17] {
        for size in [pieces * PIECE - 1, pieces * PIECE, pieces * PIECE + 1, pieces * PIECE + 1_024] {
            let bytes = object(size);
            let root = plain_root(&bytes);
            assert_eq!(merge(&list_of(&bytes)), Some(root), "{size} bytes");
            assert_eq!(check_list(&list_of(&bytes), size as u64, root), ListCheck::Fits, "{size} bytes");
        }
    }
}

#[test]
fn an_object_of_one_piece_hashes_to_its_root() {
    let bytes = object(PIECE);
    assert_eq!(hash_piece(&bytes, 0, 1), plain_root(&bytes).0);
    assert_eq!(hashed(&bytes, 1_000).list, [plain_root(&bytes).0]);
}

#[test]
fn an_empty_object_has_no_list_but_a_root() {
    assert_eq!(merge(&[]), None);
    let empty = ObjectHasher::new().finish();
    assert_eq!(empty, HashedObject { size: 0, root: plain_root(b""), list: Vec::new() });
    assert_eq!(check_list(&[], 0, plain_root(b"")), ListCheck::Refused);
}

#[test]
fn bytes_that_are_no_piece_are_hashed_without_a_panic_and_fit_nothing() {
    let bytes = object(3 * PIECE);
    let list = list_of(&bytes);
    assert!(!list.contains(&hash_piece(b"", 1, 3)));
    assert!(!list.contains(&hash_piece(&bytes, 0, 3)));
    assert!(!list.contains(&hash_piece(&bytes[..PIECE + 1], 0, 3)));
    assert!(!list.contains(&hash_piece(&bytes[..PIECE - 1], 0, 3)));
    hash_piece(&bytes[..PIECE], u32::MAX, u32::MAX);
}

#[test]
fn the_right_bytes_at_a_wrong_place_are_refused() {
    let bytes = object(4 * PIECE);
    let list = list_of(&bytes);
    let second = &bytes[PIECE..2 * PIECE];
    assert_eq!(hash_piece(second, 1, 4), list[1]);
    assert_ne!(hash_piece(second, 2, 4), hash_piece(second, 1, 4));
    assert_ne!(hash_piece(second, 0, 1), hash_piece(second, 1, 4));
}

#[test]
fn inner_nodes_do_not_pass_for_a_shorter_list() {
    let bytes = object(4 * PIECE);
    let list = list_of(&bytes);
    let inner = [subtree(&list[..2]), subtree(&list[2..])];
    let root = plain_root(&bytes);
    assert_eq!(merge(&inner), Some(root), "the tree really is built so");
    assert_eq!(check_list(&inner, 4 * PIECE as u64, root), ListCheck::Refused);
}

#[test]
fn a_list_file_of_odd_length_is_no_list() {
    assert_eq!(list_from_bytes(&[0; 33]), None);
    assert_eq!(list_from_bytes(b"<html>404</html>"), None);
    assert_eq!(list_from_bytes(b""), Some(Vec::new()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_size_in_any_steps_hashes_as_plain_blake3(size in 0..600_000_usize, step in 1..200_000_usize) {
        let bytes = object(size);
        let hashed = hashed(&bytes, step);
        prop_assert_eq!(hashed.size, size as u64);
        prop_assert_eq!(hashed.root, plain_root(&bytes));
        prop_assert_eq!(&hashed.list, &list_of(&bytes));
        prop_assert_eq!(list_from_bytes(&list_to_bytes(&hashed.list)), Some(hashed.list));
    }

    #[test]
    fn a_flipped_byte_is_refused(size in 1..400_000_usize, at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let mut bytes = object(size);
        let list = list_of(&bytes);
        let at = at.index(size);
        bytes[at] ^= 1 << bit;
        let piece = (at / PIECE) as u32;
        let start = piece as usize * PIECE;
        let end = start + piece_len(size as u64, piece) as usize;
        prop_assert_ne!(hash_piece(&bytes[start..end], piece, list.len() as u32), list[piece as usize]);
    }

    #[test]
    fn a_changed_list_is_refused(
        size in 1..600_000_usize,
        change in 0..4,
        (at, other) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        bit in 0..8_u32,
    ) {
        let bytes = object(size);
        let right = list_of(&bytes);
        let root = plain_root(&bytes);
        prop_assert_eq!(check_list(&right, size as u64, root), ListCheck::Fits);
        let mut list = right.clone();
        let at = at.index(list.len());
        match change {
            0 => list[at][other.index(32)] ^= 1 << bit,
            1 => list.truncate(at),
            2 => list.push(list[at]),
            _ => list.swap(at, other.index(right.len())),
        }
        prop_assume!(list != right);
        prop_assert_eq!(check_list(&list, size as u64, root), ListCheck::Refused);
    }
}
