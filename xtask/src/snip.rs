//! Takes the texts of panics out of a wasm module.
//!
//! In a browser a panic is a trap: its message goes nowhere. But each place that may panic prepares one, and whatever can be
//! part of a message has its formatting linked in: a tenth of the engine. So the functions that a panic calls become a bare
//! `unreachable`, and wasm-opt removes what was only prepared for them.

use anyhow::{Context as _, Result};
use walrus::{FunctionBuilder, FunctionKind, Module};

/// Parts of the mangled names of functions that end in a panic and do nothing else.
const PANICS: [&str; 12] = [
    "9panicking", // core::panicking, std::panicking
    "slice_error_fail",
    "slice_index_fail",
    "len_mismatch_fail",
    "13assert_failed",
    "13unwrap_failed",
    "13expect_failed",
    "7raw_vec12handle_error",
    "17capacity_overflow",
    "18handle_alloc_error",
    "8rust_oom",
    "10rust_panic",
];

/// The module without them. Its name section must be there.
///
/// # Errors
/// If `wasm` is no module, or no function of it panics: then the names have changed.
pub(crate) fn panics(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut module = Module::from_buffer(wasm).context("the compiled engine is no wasm module")?;
    let doomed: Vec<_> = module
        .funcs
        .iter_local()
        .filter(|(id, _)| {
            let function = module.funcs.get(*id);
            let named = function.name.as_deref().is_some_and(|name| PANICS.iter().any(|part| name.contains(part)));
            // What returns something is asked something.
            named && module.types.results(function.ty()).is_empty()
        })
        .map(|(id, _)| id)
        .collect();
    anyhow::ensure!(
        !doomed.is_empty(),
        "no function of the engine looks like a panic: see PANICS in xtask/src/snip.rs"
    );
    for id in doomed {
        let params = module.types.params(module.funcs.get(id).ty()).to_vec();
        let arguments = params.iter().map(|kind| module.locals.add(*kind)).collect();
        let mut builder = FunctionBuilder::new(&mut module.types, &params, &[]);
        builder.func_body().unreachable();
        module.funcs.get_mut(id).kind = FunctionKind::Local(builder.local_func(arguments));
    }
    Ok(module.emit_wasm())
}
