//! `marea-seeder key`: makes, shows, rotates and retires the keys that playlists are signed with.

use std::{
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Context;
use clap::{Arg, ArgMatches, Command, value_parser};

use marea_seeder::{KeyError, KeyRing, KeyState, PublicKey, Signer};

/// `--key FILE`, as all commands that sign have it.
pub(super) fn key_arg() -> Arg {
    Arg::new("key").long("key").value_name("FILE").value_parser(value_parser!(PathBuf)).help(
        "Key file (`marea-seeder key new`) to sign the playlists with, so that mirrors and viewers can check them",
    )
}

/// The key that signs, if a file was named.
pub(super) fn signer(matches: &ArgMatches) -> Result<Option<Signer>, KeyError> {
    let path: Option<&PathBuf> = matches.get_one("key");
    path.map(|path| KeyRing::load(path).map(|ring| ring.signer())).transpose()
}

pub(super) fn command() -> Command {
    let key = || key_arg().required(true).help("The key file; keep it out of folders that are served, and keep a copy");
    Command::new("key")
        .about("Make, show, rotate and retire the keys that playlists are signed with")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            Command::new("new")
                .about("Make a key file; in one that exists, add a key that will sign after the next `rotate`")
                .arg(key()),
            Command::new("show").about("Print the public keys and what each is for").arg(key()),
            Command::new("rotate")
                .about("Let the next key sign. What was signed before still counts until it expires")
                .arg(key()),
            Command::new("retire")
                .about("Erase the secret of a former or standby key, and say so at /.well-known/marea")
                .arg(key())
                .arg(
                    Arg::new("public")
                        .value_name("ed25519:KEY")
                        .required(true)
                        .value_parser(|text: &str| text.parse::<PublicKey>())
                        .help("The public key, as `key show` prints it"),
                ),
        ])
}

/// Runs one of them; all print the keys as they are then.
pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<u8> {
    let (name, matches) = matches.subcommand().context("which: new, show, rotate or retire?")?;
    let path: &PathBuf = matches.get_one("key").context("no key file was named")?;
    let ring = match (name, KeyRing::load(path)) {
        ("new", Err(KeyError::Missing(_))) => KeyRing::create(path)?,
        (_, ring) => {
            let mut ring = ring?;
            match name {
                "new" => drop(ring.add()?),
                "rotate" => drop(ring.rotate()?),
                "retire" => ring.retire(*matches.get_one("public").context("which key?")?)?,
                _ => {}
            }
            ring
        }
    };
    let mut pinned = Vec::new();
    for key in ring.public() {
        let (state, counts) = match key.state {
            KeyState::Signing => ("signing", true),
            KeyState::Standby => ("standby", true),
            KeyState::Former => ("former", true),
            _ => ("retired", false),
        };
        let since = UNIX_EPOCH + Duration::from_millis(key.since);
        println!("{} {state} since {}", key.key, httpdate::fmt_http_date(since));
        pinned.extend(counts.then(|| key.key.to_string()));
    }
    eprintln!("pages pin it by: <script src=\"…/marea.js\" data-public-key=\"{}\" defer></script>", pinned.join(","));
    Ok(0)
}
