//! Random numbers and samples.

use std::fmt;

/// Random numbers from a secret seed: ids must not be guessable, and a run with a fixed seed repeats.
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

    /// Uniform in `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        (u64::from_le_bytes(self.bytes()) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform below `bound`; 0 when `bound` is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((self.unit() * bound as f64) as usize).min(bound.saturating_sub(1))
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rng")
    }
}

/// Up to `count` different numbers below `len`, each set equally likely (Floyd), in order.
pub(crate) fn sample(len: usize, count: usize, mut below: impl FnMut(usize) -> usize) -> impl Iterator<Item = usize> {
    let mut chosen = std::collections::BTreeSet::new();
    for last in len.saturating_sub(count)..len {
        let number = below(last + 1);
        if !chosen.insert(number) {
            chosen.insert(last);
        }
    }
    chosen.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_holds_different_numbers_and_favours_none() {
        let mut rng = Rng::new(&[1; 32]);
        let mut seen = [0u32; 20];
        for _ in 0..4000 {
            let numbers: Vec<usize> = sample(20, 5, |bound| rng.below(bound)).collect();
            assert_eq!(numbers.len(), 5);
            numbers.iter().for_each(|number| seen[*number] += 1);
        }
        // 1000 expected of each; five deviations are 137.
        assert!(seen.iter().all(|count| (860..1140).contains(count)), "{seen:?}");
        assert_eq!(sample(3, 5, |bound| rng.below(bound)).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(sample(0, 5, |bound| rng.below(bound)).count(), 0);
    }
}
