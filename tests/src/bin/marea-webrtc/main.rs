//! The programs of `cargo xtask bench webrtc`: a sender over the `webrtc` crate, native receivers, and a line with delay and
//! loss. All are driven by JSON objects, one a line, on standard input, and answer likewise.

mod line;
mod receive;
mod send;

use std::io::Write as _;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use marea_swarm::{
    ids::announce_id,
    proof::{self, Fingerprint, Role},
    sdp::check_sdp,
    wire::{Control, Hello, PeerKind, WIRE_VERSIONS, encode_control},
};
use serde::Serialize;

/// One side of a measurement of WebRTC.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answers offers, and sends without end to whoever says anything.
    Send,
    /// Offers connections, and counts what comes over them.
    Receive,
    /// Passes datagrams on, late and not all.
    Line,
    /// Prints what a page cannot make without BLAKE3: the announce id of a video and the offerer's HELLO.
    Hello {
        /// Video id.
        video: String,
        /// The offer and the answer, for a HELLO.
        #[arg(num_args = 2)]
        descriptions: Vec<String>,
    },
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Send => send::run(),
        Command::Receive => receive::run(),
        Command::Line => line::run(),
        Command::Hello { video, descriptions } => {
            let hello = match &descriptions[..] {
                [offer, answer] => Some(hello(&video, &check_sdp(offer)?, &check_sdp(answer)?)?),
                _ => None,
            };
            say(
                &serde_json::json!({ "announce": announce(&video), "hello": hello.map(|hello| HEXLOWER.encode(&hello)) }),
            )
        }
    }
}

/// The announce id as signaling spells it.
fn announce(video: &str) -> String {
    BASE64URL_NOPAD.encode(&announce_id(video))
}

/// The HELLO of a viewer that offered.
fn hello(video: &str, local: &Fingerprint, remote: &Fingerprint) -> Result<Vec<u8>> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).context("no randomness")?;
    let proof = proof::proof(&proof::swarm_key(video), Role::Offerer, &nonce, local, remote);
    let versions = (*WIRE_VERSIONS.start(), *WIRE_VERSIONS.end());
    Ok(encode_control(&Control::Hello(Hello { versions, kind: PeerKind::Viewer, nonce, proof })))
}

/// Prints one line for whoever drives us.
fn say(message: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    Ok(out.flush()?)
}
