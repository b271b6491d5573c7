//! `marea-signaling token` and `marea-signaling announce-id`: what a site's own programs do, for the shell.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use marea_signaling::{
    AnnounceId, Network,
    defaults::TOKEN_LIFE,
    message::Kind,
    token::{Claims, TokenKey},
};

/// The two subcommands.
pub(crate) fn commands() -> [Command; 2] {
    let video = |help: &'static str| Arg::new("video").value_name("VIDEO").help(help);
    let token = Command::new("token")
        .about("Print a token that opens one video, signed with a key file")
        .arg(
            Arg::new("key")
                .long("key")
                .value_name("FILE")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Secret of 32 bytes or more (HS256), or Ed25519 private key in PEM (EdDSA)"),
        )
        .arg(video("Video id, as in VIDEO of the playlist's tag").required_unless_present("announce-id"))
        .arg(
            Arg::new("announce-id")
                .long("announce-id")
                .value_name("ID")
                .conflicts_with("video")
                .value_parser(|text: &str| text.parse::<AnnounceId>())
                .help("Announce id, in place of the video id"),
        )
        .arg(
            Arg::new("kind")
                .long("kind")
                .value_name("KIND")
                .default_value("viewer")
                .value_parser(["viewer", "mirror", "edge"])
                .help("What it lets its holder join as"),
        )
        .arg(
            Arg::new("seconds")
                .long("seconds")
                .value_name("N")
                .default_value("3600")
                .value_parser(value_parser!(u32).range(1..=TOKEN_LIFE as i64))
                .help("How long it is good, 3600 at most"),
        )
        .arg(
            Arg::new("prefix")
                .long("prefix")
                .value_name("NETWORK")
                .value_parser(|text: &str| text.parse::<Network>().map(|_| text.to_owned()))
                .help("Network that the client must be in, such as 198.51.100.0/24"),
        );
    let announce = Command::new("announce-id")
        .about("Print what signaling calls a video: the id in tokens and in `video-policy` and `revoked`")
        .arg(
            video("Video ids, as in VIDEO of the playlist's tag")
                .required(true)
                .action(ArgAction::Append)
                .num_args(1..),
        );
    [token, announce]
}

/// Runs a subcommand.
pub(crate) fn run(name: &str, matches: &ArgMatches) -> anyhow::Result<()> {
    if name == "announce-id" {
        for video in matches.get_many::<String>("video").into_iter().flatten() {
            println!("{}", AnnounceId::of_video(video));
        }
        return Ok(());
    }
    let path = matches.get_one::<PathBuf>("key").context("--key is missing")?;
    let key = TokenKey::read(path).with_context(|| format!("--key {}", path.display()))?;
    let video = match (matches.get_one::<AnnounceId>("announce-id"), matches.get_one::<String>("video")) {
        (Some(id), _) => *id,
        (None, Some(video)) => AnnounceId::of_video(video),
        (None, None) => bail!("name a video"),
    };
    let kind = match matches.get_one::<String>("kind").map(String::as_str) {
        Some("mirror") => Kind::Mirror,
        Some("edge") => Kind::Edge,
        _ => Kind::Viewer,
    };
    let now = std::time::UNIX_EPOCH.elapsed().context("the clock is before 1970")?.as_secs();
    let seconds = matches.get_one::<u32>("seconds").copied().unwrap_or_default();
    let exp = (now + u64::from(seconds)) as f64;
    let prefix = matches.get_one::<String>("prefix").cloned();
    let claims = Claims { video: video.to_string(), kind, exp, nbf: None, prefix };
    let token = key.sign(&claims).context("a public key cannot sign: --key takes the private one")?;
    println!("{token}");
    Ok(())
}
