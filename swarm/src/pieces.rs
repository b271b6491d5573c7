//! Placeholder, owned by PL.
/// Chaining value of one piece (of the root if the object has one piece).
pub type Cv = [u8; 32];
