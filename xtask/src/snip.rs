//! Takes the texts of panics out of a wasm module.
//!
//! In a browser a panic is a trap: its message goes nowhere. But each place that may panic prepares one, and whatever can be
//! part of a message has its formatting linked in: a tenth of the engine. So the functions that a panic calls become a bare
//! `unreachable`, and wasm-opt removes what was only prepared for them.

use anyhow::{Context as _, Result, ensure};
use walrus::{ConstExpr, Data, DataKind, FunctionBuilder, FunctionKind, Module, ir::Value};

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
    ensure!(!doomed.is_empty(), "no function of the engine looks like a panic: see PANICS in xtask/src/snip.rs");
    for id in doomed {
        let params = module.types.params(module.funcs.get(id).ty()).to_vec();
        let arguments = params.iter().map(|kind| module.locals.add(*kind)).collect();
        let mut builder = FunctionBuilder::new(&mut module.types, &params, &[]);
        builder.func_body().unreachable();
        module.funcs.get_mut(id).kind = FunctionKind::Local(builder.local_func(arguments));
    }
    for id in module.data.iter().map(Data::id).collect::<Vec<_>>() {
        let segment = module.data.get_mut(id);
        if let DataKind::Active { offset: ConstExpr::Value(Value::I32(start)), .. } = segment.kind {
            clear_locations(&mut segment.value, start.cast_unsigned());
        }
    }
    Ok(module.emit_wasm())
}

/// Zeroes what panics say of their place, now that nobody reads it: records of address and length of a file's name, line and
/// column (`core::panic::Location`), and the names. wasm-opt leaves zeros out. `start` is the address of `data`.
fn clear_locations(data: &mut [u8], start: u32) {
    let word = |data: &[u8], at: usize| data.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let mut names = Vec::new();
    for at in (0..data.len().saturating_sub(15)).step_by(4) {
        let (Some(address), Some(len)) = (word(data, at), word(data, at + 4)) else { continue };
        let Some(from) = address.checked_sub(start).map(|from| from as usize) else { continue };
        let name = from..from.saturating_add(len as usize);
        if data.get(name.clone()).is_some_and(|name| name.ends_with(b".rs")) {
            data[at..at + 16].fill(0);
            names.push(name);
        }
    }
    for name in names {
        data[name].fill(0);
    }
}
