//! What crosses Marea's programs. [`native`] is a scripted peer over real WebRTC that speaks `docs/protocol.md` without
//! the core's scheduler: honest, or lying as its script says. [`fleet`] runs thousands of real cores in virtual time.
//! Browsers are driven from `e2e/`.

pub mod fleet;
#[cfg(feature = "native")]
pub mod native;
