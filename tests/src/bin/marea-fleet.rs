//! `marea-fleet [SCENARIO...] [--viewers N] [--seed S]`: runs the fleet simulator and prints its figures.

use std::{io::Write, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use marea_tests::fleet::{self, Figures, Scenario, calibrate::Browsers, report};

/// Runs, in the documentation's folder.
const LINES: &str = "benchmarks/fleet.jsonl";
/// Marks of the table in the page.
const BEGIN: &str = "<!-- fleet: drawn by `cargo xtask bench fleet --report` -->";
const END: &str = "<!-- end of fleet -->";

/// Thousands of viewers in virtual time.
#[derive(Parser)]
struct Args {
    /// Scenarios by name; `all` is every one, `calibration` those of `bench viewers`. Without any: live.
    scenarios: Vec<String>,
    /// Viewers, in place of each scenario's own number.
    #[arg(long)]
    viewers: Option<usize>,
    /// Seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Virtual seconds, in place of each scenario's own.
    #[arg(long)]
    seconds: Option<u64>,
    /// Leave out the run without Marea.
    #[arg(long)]
    marea_only: bool,
    /// Append each run as a line of JSON to docs/benchmarks/fleet.jsonl.
    #[arg(long)]
    append: bool,
    /// Only draw the table of docs/benchmarks.md again, from the latest run of each kind in that file.
    #[arg(long)]
    report: bool,
    /// Compare with these runs of `bench viewers`, each scenario with as many viewers as it was measured with.
    #[arg(long, value_name = "viewers.jsonl")]
    browsers: Option<PathBuf>,
    /// List the scenarios and end.
    #[arg(long)]
    list: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.report {
        return draw();
    }
    let known: Vec<Scenario> = Scenario::all().into_iter().chain(Scenario::calibration()).collect();
    if args.list {
        for scenario in &known {
            println!("{:<12} {}", scenario.name, scenario.about);
        }
        return Ok(());
    }
    let mut runs: Vec<Figures> = Vec::new();
    let mut scenarios = chosen(&args.scenarios, known)?;
    let browsers = match &args.browsers {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
            let browsers = Browsers::read(&text);
            let sized = |scenario: &Scenario| {
                let sizes = browsers.sizes(scenario).into_iter();
                sizes.map(|viewers| Scenario { viewers, ..scenario.clone() }).collect::<Vec<_>>()
            };
            scenarios = scenarios.iter().flat_map(sized).collect();
            Some(browsers)
        }
        None => None,
    };
    for mut scenario in scenarios {
        scenario.seed = args.seed;
        scenario.viewers = args.viewers.unwrap_or(scenario.viewers);
        scenario.span = args.seconds.map_or(scenario.span, |seconds| seconds * 1000);
        eprintln!("{}: {}, {} viewers", scenario.name, scenario.about, scenario.viewers);
        let http = (!args.marea_only).then(|| scenario.over_http());
        for scenario in std::iter::once(scenario).chain(http) {
            let figures = fleet::run(&scenario);
            if args.append {
                let path = docs().join(LINES);
                let file = std::fs::File::options().create(true).append(true).open(&path);
                let mut file = file.with_context(|| format!("{} cannot be written", path.display()))?;
                writeln!(file, "{}", figures.to_json())?;
            }
            runs.push(figures);
        }
    }
    print!("{}", report::table(&runs));
    if let Some(browsers) = browsers {
        print!("\n{}", browsers.beside(&runs));
    }
    Ok(())
}

/// The documentation of this repository.
fn docs() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs"))
}

/// Writes the table into the page.
fn draw() -> Result<()> {
    let (page, lines) = (docs().join("benchmarks.md"), docs().join(LINES));
    let read =
        |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()));
    let text = read(&page)?;
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("{} has no {BEGIN}", page.display()))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{} has no {END}", page.display()))?;
    let table = report::markdown(&read(&lines)?);
    std::fs::write(&page, format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))?;
    Ok(())
}

fn chosen(names: &[String], known: Vec<Scenario>) -> Result<Vec<Scenario>> {
    if names.is_empty() {
        return Ok(known.into_iter().filter(|scenario| scenario.name == "live").collect());
    }
    let mut out = Vec::new();
    for name in names {
        let fits = |scenario: &&Scenario| {
            scenario.name == name
                || (name == "all" && !scenario.name.starts_with("cal-"))
                || (name == "calibration" && scenario.name.starts_with("cal-"))
        };
        let before = out.len();
        out.extend(known.iter().filter(fits).cloned());
        if out.len() == before {
            let names: Vec<&str> = known.iter().map(|scenario| scenario.name).collect();
            bail!("no scenario is called {name:?}; there are all, calibration, {}", names.join(", "));
        }
    }
    Ok(out)
}
