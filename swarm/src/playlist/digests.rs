//! Hashes that stand beside a playlist instead of in it, such as PeerTube's `segments-sha256.json`.

use super::{Locator, MediaPlaylist, ObjectRef};
use crate::ids::{HashKind, MAX_OBJECT_SIZE, Root};

impl MediaPlaylist {
    /// Gives objects to the segments of a playlist without Marea's tags. `digest` tells the SHA-256 and the size in bytes of
    /// what a locator names, if the hash list has it. A size that contradicts the byte range, is 0 or too large is left out, as it
    /// is in tags. A playlist with tags stays as it is: they say more.
    pub fn add_digests(&mut self, digest: impl Fn(&Locator) -> Option<(Root, u64)>) {
        if self.tag.is_some() || self.tag_error.is_some() {
            return;
        }
        for segment in &mut self.segments {
            let Some((root, size)) = digest(&segment.locator) else { continue };
            let size_fits = segment.locator.range.is_none_or(|range| range.len == size);
            if size_fits && !segment.gap && (1..=MAX_OBJECT_SIZE).contains(&size) {
                segment.object = Some(ObjectRef { root, kind: HashKind::Sha256, size, list_at: 0 });
            }
        }
        self.refuse_contradictions();
    }
}
