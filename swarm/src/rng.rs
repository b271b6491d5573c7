//! Random numbers from a seed that the host gives: BLAKE3 is linked anyway, and a run with a fixed seed repeats.

use std::fmt;

/// A deterministic generator over BLAKE3's extendable output. Good enough for nonces when the seed is secret.
pub(crate) struct Rng(blake3::OutputReader);

impl Rng {
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        Self(blake3::Hasher::new_keyed(seed).finalize_xof())
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.0.fill(&mut out);
        out
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rng")
    }
}
