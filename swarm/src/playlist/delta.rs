//! Delta updates (RFC 8216bis §6.2.5.1): a playlist that leaves out what its reader already has.

use super::{InitSection, MediaPlaylist, Segment};
use crate::ids::MAX_SEGMENTS;

impl MediaPlaylist {
    /// Puts in the segments that `EXT-X-SKIP` left out, from the playlist that was read before. Their `line`s are those
    /// of the older text.
    ///
    /// `true` when nothing is missing any more. `false`, and nothing changed, if `previous` does not hold them all: the
    /// player then reads the whole playlist, and so must the host.
    pub fn fill_skipped(&mut self, previous: &Self) -> bool {
        let Some(skipped) = previous.slice(self.media_sequence, self.skipped) else {
            return false;
        };
        if skipped.is_empty() {
            return true;
        }
        if skipped.len() + self.segments.len() > MAX_SEGMENTS {
            return false;
        }
        // Only the init sections that are still used, and those once, or they would pile up over hours of updates.
        let first_map = skipped.iter().filter_map(|segment| segment.map).min().unwrap_or(0);
        let end_map = skipped.iter().filter_map(|segment| segment.map).max().map_or(0, |last| last + 1);
        let kept_maps = previous.maps.get(first_map..end_map).unwrap_or_default();
        let last_map = skipped.last().and_then(|segment| segment.map).map(|map| map - first_map);
        // An update may say again which one holds where it begins.
        let same = |a: &InitSection, b: &InitSection| a.locator == b.locator && a.object == b.object;
        let repeated = match (self.maps.first(), kept_maps.last()) {
            (Some(first), Some(last)) => usize::from(last_map == Some(kept_maps.len() - 1) && same(first, last)),
            _ => 0,
        };
        for segment in &mut self.segments {
            // What applies to the skipped ones still applies until the text says otherwise.
            segment.map = segment.map.map(|map| map + kept_maps.len() - repeated).or(last_map);
        }
        self.maps.drain(..repeated);
        let shifted =
            skipped.iter().cloned().map(|segment| Segment { map: segment.map.map(|map| map - first_map), ..segment });
        self.segments.splice(..0, shifted);
        self.maps.splice(..0, kept_maps.iter().cloned());
        self.skipped = 0;
        self.number(self.media_sequence);
        self.refuse_contradictions();
        true
    }

    /// Segments `first..first + count`, if all of them are listed.
    fn slice(&self, first: u64, count: u64) -> Option<&[Segment]> {
        if count == 0 {
            return Some(&[]);
        }
        let start = first.checked_sub(self.segments.first()?.msn)?;
        let end = start.checked_add(count)?;
        self.segments.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }
}
