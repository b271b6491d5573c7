//! Embeds the browser engine from `target/engine/` (made by `cargo xtask build`), so that the seeder is one binary.
//! Without it the crate still builds; `serve` then says what to run.

use std::{env, fmt::Write as _, fs, io, path::Path};

const FILES: [&str; 3] = ["marea.js", "marea.wasm", "marea-hls.js"];

fn main() -> io::Result<()> {
    let manifest = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    let engine = Path::new(&manifest).join("../target/engine");
    // A watched path that does not exist would rebuild this crate every time.
    fs::create_dir_all(&engine)?;
    if FILES.iter().any(|name| !engine.join(name).exists()) {
        println!("cargo::rerun-if-changed={}", engine.display());
    }

    let mut table = String::from("pub(crate) const FILES: &[(&str, Option<&[u8]>)] = &[\n");
    for name in FILES {
        let source = engine.join(name);
        if source.is_file() {
            println!("cargo::rerun-if-changed={}", source.display());
            // A copy: the crate must not change under a half-written engine.
            fs::copy(&source, Path::new(&out).join(name))?;
            let _ = writeln!(table, "    ({name:?}, Some(include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}\")))),");
        } else {
            let _ = writeln!(table, "    ({name:?}, None),");
        }
    }
    table.push_str("];\n");
    fs::write(Path::new(&out).join("engine.rs"), table)
}
