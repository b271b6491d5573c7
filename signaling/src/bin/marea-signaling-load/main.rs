//! `marea-signaling-load`: viewers and WebTorrent clients by the thousand, in one thread, to measure a signaling server with.
//!
//! What it measures is printed as one line of JSON on stdout: see [`report::Report`]. It speaks Marea's signaling to us, and the
//! tracker protocol to us and to any other tracker, so that both do the same work.

mod clients;
mod report;
mod server;

use std::{cell::RefCell, process::ExitCode, rc::Rc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use tokio::{
    runtime::Builder,
    task::LocalSet,
    time::{Instant, sleep},
};

use self::{
    clients::Shared,
    report::{Report, Tally},
    server::Server,
};

/// Puts the load of many viewers on a signaling server and measures it.
#[derive(Clone, Debug, Parser)]
#[command(version)]
struct Options {
    /// WebSocket URLs of the server's nodes; a client goes to one, and to the next when that one ends.
    #[arg(required = true)]
    urls: Vec<String>,
    /// What is spoken.
    #[arg(long, value_enum, default_value = "marea")]
    dialect: Dialect,
    /// Clients, each with a socket of its own.
    #[arg(long, default_value_t = 2000)]
    connections: usize,
    /// Swarms that they are spread over.
    #[arg(long, default_value_t = 100)]
    swarms: usize,
    /// Seconds between two announces (or joins) of a client; 0: as soon as the last one's offers are answered.
    #[arg(long, default_value_t = 10.0)]
    every: f64,
    /// Clients that announce, where `every` is 0.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Offers of an announce.
    #[arg(long, default_value_t = 5)]
    offers: usize,
    /// Seconds of the measurement, after a warm-up of a third.
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
    /// Join once, within ten seconds, and stay with the neighbours that are found.
    #[arg(long)]
    once: bool,
    /// Only join, each wanting nobody, and hold the connections.
    #[arg(long)]
    idle: bool,
    /// The server's process (on this machine), for its CPU time and memory.
    #[arg(long)]
    pid: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Dialect {
    /// Marea's own.
    Marea,
    /// WebTorrent's tracker protocol.
    Tracker,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let run = || -> Result<()> {
        raise_file_limit();
        let runtime = Builder::new_current_thread().enable_all().build().context("no runtime")?;
        let report = LocalSet::new().block_on(&runtime, run(options))?;
        println!("{}", serde_json::to_string(&report)?);
        Ok(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("marea-signaling-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<Report> {
    ensure!(options.swarms > 0 && options.connections > 0, "there have to be swarms and connections");
    let server = Server::new(options.pid);
    let base = server.memory();
    let shared = Rc::new(Shared { options, tally: RefCell::new(Tally::default()), begin: Instant::now() });
    let Options { connections, every, seconds, idle, once, .. } = shared.options;
    clients::start(&shared).await?;
    sleep(Duration::from_secs(1)).await;
    let quiet = server.memory();
    if idle {
        sleep(Duration::from_secs_f64(seconds / 3.0)).await;
    } else {
        shared.tally.borrow_mut().go = true;
        // Every client has announced once before anything is measured.
        let first = if once { clients::ONCE.as_secs_f64() + 2.0 } else { every };
        sleep(Duration::from_secs_f64(first.max(seconds / 3.0))).await;
    }
    shared.tally.replace_with(|tally| Tally { go: !idle, open: tally.open, ..Tally::default() });
    let (cpu, begin) = (server.cpu_seconds(), Instant::now());
    sleep(Duration::from_secs_f64(seconds)).await;
    let took = begin.elapsed().as_secs_f64();
    let cpu = server.cpu_seconds().zip(cpu).map(|(end, begin)| end - begin);
    let memory = server.memory();
    let tally = std::mem::take(&mut *shared.tally.borrow_mut());
    let each = |now: Option<u64>| Some(now?.saturating_sub(base?) as f64 / 1024.0 / connections as f64);
    Ok(tally.report(took, cpu, each(quiet), each(memory)))
}

/// Each client is a file descriptor.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Too few show as connections that fail.
    let _ = setrlimit(Resource::Nofile, limit);
}
