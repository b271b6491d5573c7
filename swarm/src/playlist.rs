//! Placeholder, owned by PL.
/// Byte range of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
}
/// What a player asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locator {
    /// Absolute URL without fragment.
    pub url: String,
    /// Byte range, if any.
    pub range: Option<ByteRange>,
}
/// A media playlist.
#[derive(Clone, Debug)]
pub struct MediaPlaylist {}
