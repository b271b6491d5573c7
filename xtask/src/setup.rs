//! Finds or installs what a command needs.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::{
    run::{self, program},
    stamp::{self, Inputs},
};

/// What a command is about to do. Later ones include what earlier ones need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Build the engine.
    Build,
    /// Encode footage.
    Media,
    /// Engine and footage.
    Demo,
    /// All checks and tests.
    Test,
}

/// A program or file, the Debian package that brings it, and who needs it.
struct Tool {
    name: &'static str,
    /// A path, or the name of a program in `PATH` or an `sbin`.
    probe: &'static str,
    package: &'static str,
    needs: &'static [Need],
}

const NODE: &[Need] = &[Need::Build, Need::Demo, Need::Test];
const MEDIA: &[Need] = &[Need::Media, Need::Demo, Need::Test];
const TEST: &[Need] = &[Need::Test];

const TOOLS: &[Tool] = &[
    Tool { name: "a C linker for Rust", probe: "cc", package: "gcc libc6-dev", needs: NODE },
    // For the seeder's WebRTC.
    Tool { name: "OpenSSL's headers", probe: "/usr/include/openssl/ssl.h", package: "libssl-dev", needs: NODE },
    Tool { name: "pkg-config", probe: "pkg-config", package: "pkg-config", needs: NODE },
    Tool { name: "Node.js", probe: "node", package: "nodejs", needs: NODE },
    Tool { name: "npm", probe: "npm", package: "npm", needs: NODE },
    Tool { name: "ffmpeg", probe: "ffmpeg", package: "ffmpeg", needs: MEDIA },
    Tool { name: "DejaVu fonts", probe: crate::media::FONT, package: "fonts-dejavu-core", needs: MEDIA },
    // Brings shaka-packager.
    Tool { name: "pip", probe: "pip3", package: "python3-pip", needs: &[Need::Media, Need::Test] },
    Tool { name: "Chromium", probe: "chromium", package: "chromium", needs: TEST },
    Tool { name: "nginx", probe: "nginx", package: "nginx-light", needs: TEST },
    // Brings redis-cli, too.
    Tool { name: "Redis", probe: "redis-server", package: "redis-server", needs: TEST },
    // Two homes behind NAT, each in a network namespace.
    Tool { name: "ip", probe: "ip", package: "iproute2", needs: TEST },
    Tool { name: "iptables", probe: "iptables", package: "iptables", needs: TEST },
    Tool { name: "conntrack", probe: "conntrack", package: "conntrack", needs: TEST },
    Tool { name: "sysctl", probe: "sysctl", package: "procps", needs: TEST },
];

/// Oldest Node.js that the npm packages run on: Debian 12's.
const NODE_MAJOR: u32 = 18;

/// The target of the engine.
pub(crate) const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// Sees to it that everything for `need` is there.
///
/// # Errors
/// If something is missing and cannot be installed from here; the message holds the command that does it.
pub(crate) fn ensure(need: Need) -> Result<()> {
    packages(need)?;
    if NODE.contains(&need) {
        node_version()?;
        wasm_target()?;
        npm_packages()?;
    }
    Ok(())
}

fn packages(need: Need) -> Result<()> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| tool.needs.contains(&need) && !is_there(tool.probe)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.iter().map(|tool| tool.name).collect::<Vec<_>>().join(", ");
    let packages: Vec<&str> = missing.iter().flat_map(|tool| tool.package.split(' ')).collect();
    let install = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    if !is_there("apt-get") {
        bail!("missing: {names}. Please install them; on Debian: {install}");
    }
    if !is_root() {
        bail!("missing: {names}. Please run\n\n    sudo apt-get update && sudo {install}\n\nand start again");
    }
    eprintln!("installing {} (missing: {names})", packages.join(" "));
    let apt = |args: &[&str]| {
        run::check_quietly(program("apt-get", args).env("DEBIAN_FRONTEND", "noninteractive"))
            .with_context(|| format!("packages could not be installed; by hand: apt-get update && {install}"))
    };
    apt(&["update"])?;
    let mut args = vec!["install", "-y", "--no-install-recommends"];
    args.extend(&packages);
    apt(&args)?;
    // Debian starts servers when it installs them. The tests run their own; this machine's ports are not ours.
    for (package, service) in [("nginx-light", "nginx"), ("redis-server", "redis-server")] {
        if packages.contains(&package) && Path::new("/run/systemd/system").exists() {
            run::check_quietly(&mut program("systemctl", ["disable", "--now", service]))?;
        }
    }
    let still: Vec<&str> = missing.iter().filter(|tool| !is_there(tool.probe)).map(|tool| tool.name).collect();
    if !still.is_empty() {
        bail!("{} cannot be found though `{install}` succeeded", still.join(", "));
    }
    Ok(())
}

fn is_there(probe: &str) -> bool {
    if probe.contains('/') {
        return Path::new(probe).exists();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    // Debian keeps servers out of a user's PATH.
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .any(|folder| folder.join(probe).is_file())
}

pub(crate) fn is_root() -> bool {
    program("id", ["-u"]).output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn node_version() -> Result<()> {
    let output = program("node", ["--version"]).output().context("`node --version` could not be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim();
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < NODE_MAJOR) {
        bail!("Node.js {version:?} is too old: {NODE_MAJOR} or later is needed (https://nodejs.org)");
    }
    Ok(())
}

fn wasm_target() -> Result<()> {
    if run::sysroot()?.join("lib/rustlib").join(WASM_TARGET).join("lib").exists() {
        return Ok(());
    }
    eprintln!("adding Rust's {WASM_TARGET}");
    run::check_quietly(&mut program("rustup", ["target", "add", WASM_TARGET])).with_context(|| {
        format!("Rust for {WASM_TARGET} is missing and could not be added; by hand: rustup target add {WASM_TARGET}")
    })
}

fn npm_packages() -> Result<()> {
    let lock = run::root().join("package-lock.json");
    let modules = run::root().join("node_modules");
    let inputs = Inputs::default().path(&run::root().join("package.json"))?.path(&lock)?;
    // npm writes the hidden lock file last.
    stamp::fresh("npm", inputs, &[modules.join(".package-lock.json")], || {
        eprintln!("installing npm packages");
        // Nothing that we use needs an install script, so none may run.
        run::check_quietly(&mut program("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"]))
            .context("npm packages could not be installed; is the registry reachable?")
    })?;
    Ok(())
}
