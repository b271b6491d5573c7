//! One `fn(&[u8])` per decoder of outside bytes, run over a corpus by `cargo test` and by any fuzzer.
