//! Runs every fuzz target over its corpus and over random bytes.

use std::{fs, path::Path};

use marea_swarm::fuzz::TARGETS;
use proptest::{collection::vec, prelude::*};

#[test]
fn no_target_panics_on_its_corpus() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut inputs = 0;
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            target(&bytes);
            // Cut and bent copies of real input reach deeper than random bytes.
            for at in 0..bytes.len().min(256) {
                target(&bytes[..at]);
                let mut bent = bytes.clone();
                bent[at] ^= 1 << (at % 8);
                target(&bent);
            }
            inputs += 1;
        }
        assert!(inputs > 0, "{} is empty", folder.display());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_target_panics_on_random_bytes(bytes in vec(any::<u8>(), 0..2_048)) {
        for (_, target) in TARGETS {
            target(&bytes);
        }
    }

    #[test]
    fn no_target_panics_on_random_text(text in "(#EXT[A-Z-]{0,20}:?|a=candidate:|m=|[ -~\n\r]){0,200}") {
        for (_, target) in TARGETS {
            target(text.as_bytes());
        }
    }
}
