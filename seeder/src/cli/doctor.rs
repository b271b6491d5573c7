//! `marea-seeder doctor`: what a viewer's browser would see.

use std::time::Duration;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use url::Url;

use marea_seeder::{Checkup, doctor};

use super::{FAILURE, USAGE};

pub(super) fn command() -> Command {
    Command::new("doctor")
        .about("Look at a page, a playlist or a site as a viewer's browser would, and say what to change")
        .arg(
            Arg::new("url")
                .value_name("URL")
                .required(true)
                .value_parser(value_parser!(Url))
                .help("A page with the script tag, a playlist (….m3u8), or a site by its `/`"),
        )
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print the findings as JSON"))
        .arg(
            Arg::new("origin")
                .long("origin")
                .value_name("ORIGIN")
                .value_parser(page_origin)
                .help("Origin of the page that plays the video. Without it: the page's own, or any other site"),
        )
        .arg(
            Arg::new("idle")
                .long("idle")
                .value_name("SECONDS")
                .default_value("3")
                .value_parser(value_parser!(u64).range(1..=3600))
                .help("How long a silent socket to signaling must stay open; 70 shows every usual proxy time-out"),
        )
        .after_help("Exit code: 0 all is fine, 1 something is to be changed, 2 there was nothing to look at.")
}

fn page_origin(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}: give one such as https://www.example"))?;
    match url.scheme() {
        "http" | "https" => Ok(url.origin().ascii_serialization()),
        _ => Err("give one that begins with https://".to_owned()),
    }
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<u8> {
    let url: &Url = matches.get_one("url").context("no URL was named")?;
    let idle = Duration::from_secs(matches.get_one("idle").copied().unwrap_or(3));
    let checkup = Checkup { origin: matches.get_one::<String>("origin").cloned(), idle };
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    match runtime.block_on(doctor(url, &checkup)) {
        Ok(report) => {
            if matches.get_flag("json") {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                println!("{report}");
            }
            Ok(if report.is_fine() { 0 } else { FAILURE })
        }
        Err(error) => {
            eprintln!("marea-seeder: {error}");
            Ok(USAGE)
        }
    }
}
