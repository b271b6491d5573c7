//! The browser engine, as it was embedded when this program was built.

use std::sync::LazyLock;

use bytes::Bytes;

use crate::answer::Packed;

include!(concat!(env!("OUT_DIR"), "/engine.rs"));

/// A file of the engine.
pub(crate) enum EngineFile {
    /// Its bytes and strong entity tag.
    Built { packed: Packed, etag: String },
    /// The engine was not built when this program was.
    NotBuilt,
}

static BUILT: LazyLock<Vec<(&str, EngineFile)>> = LazyLock::new(|| {
    let file = |bytes: &'static [u8]| EngineFile::Built {
        packed: Packed::new(Bytes::from_static(bytes)),
        etag: format!("\"{}\"", &blake3::hash(bytes).to_hex()[..32]),
    };
    FILES.iter().map(|&(name, bytes)| (name, bytes.map_or(EngineFile::NotBuilt, file))).collect()
});

/// Compresses the files, which takes a moment, before the first viewer waits for it.
pub(crate) fn prepare() {
    LazyLock::force(&BUILT);
}

/// The engine's file `name`; none if the engine has no such file.
pub(crate) fn file(name: &str) -> Option<&'static EngineFile> {
    BUILT.iter().find(|(known, _)| *known == name).map(|(_, file)| file)
}

/// Media type of an engine file. WebAssembly must have its own to be compiled while it streams.
pub(crate) fn media_type(name: &str) -> &'static str {
    if name.ends_with(".wasm") { "application/wasm" } else { "text/javascript; charset=utf-8" }
}
