//! Real footage as HLS: the bundled clip, looped with a clock burnt in so that no two segments are equal.

use std::{
    io::{BufRead as _, BufReader, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    layouts, packager, run,
    stamp::{self, Inputs},
};

/// The clock's font.
pub(crate) const FONT: &str = "/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf";

/// Frames per second of the clip.
const FPS: u32 = 25;

/// One ladder in `target/media`.
pub(crate) struct Recipe {
    name: &'static str,
    /// Folder below `target/media`; a server is given its parent as root, or a copy.
    folder: &'static str,
    seconds: u32,
    /// Seconds per segment.
    segment: u32,
    /// x264's preset: the tests want it soon, the demo wants it to look good.
    preset: &'static str,
    /// In the order of the multivariant playlist.
    renditions: &'static [Rendition],
}

struct Rendition {
    name: &'static str,
    width: u32,
    height: u32,
    /// kbit/s
    rate: u32,
}

const RECIPES: [Recipe; 3] = [
    Recipe {
        name: "demo",
        folder: "demo/bigbuckbunny",
        seconds: 180,
        segment: 4,
        preset: "veryfast",
        renditions: &[
            Rendition { name: "720p", width: 1280, height: 720, rate: 2000 },
            Rendition { name: "360p", width: 640, height: 360, rate: 700 },
        ],
    },
    Recipe {
        name: "vod60",
        folder: "vod60",
        seconds: 60,
        segment: 4,
        preset: "ultrafast",
        renditions: &[
            Rendition { name: "360p", width: 640, height: 360, rate: 800 },
            Rendition { name: "240p", width: 426, height: 240, rate: 400 },
        ],
    },
    // What the tests' live encoder loops: key frames every 2 s, so that it can cut at 2 s or 4 s without encoding.
    Recipe {
        name: "live",
        folder: "live",
        seconds: 60,
        segment: 2,
        preset: "ultrafast",
        renditions: &[Rendition { name: "360p", width: 640, height: 360, rate: 800 }],
    },
];

/// Something in `target/media`.
#[derive(Clone, Copy)]
pub(crate) enum Footage {
    /// A ladder of its own film.
    Ladder(&'static Recipe),
    /// The light film in every layout of ffmpeg.
    Light,
    /// The same by shaka-packager.
    Shaka,
}

impl Footage {
    fn all() -> impl Iterator<Item = Self> {
        RECIPES.iter().map(Self::Ladder).chain([Self::Light, Self::Shaka])
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ladder(recipe) => recipe.name,
            Self::Light => "light",
            Self::Shaka => "shaka",
        }
    }

    fn make(self) -> Result<()> {
        match self {
            Self::Ladder(recipe) => recipe.make(),
            Self::Light => layouts::make(),
            Self::Shaka => packager::make(),
        }
    }
}

/// The footage of these names; all if there is none.
///
/// # Errors
/// If a name is unknown.
pub(crate) fn recipes(names: &[&str]) -> Result<Vec<Footage>> {
    if names.is_empty() {
        return Ok(Footage::all().collect());
    }
    names
        .iter()
        .map(|name| {
            Footage::all().find(|footage| footage.name() == *name).ok_or_else(|| {
                let known: Vec<&str> = Footage::all().map(Footage::name).collect();
                run::usage(format!("unknown footage {name:?}; there is {}", known.join(", ")))
            })
        })
        .collect()
}

/// Makes what is not there yet.
///
/// # Errors
/// If ffmpeg or shaka-packager fails.
pub(crate) fn make(footage: &[Footage]) -> Result<()> {
    footage.iter().try_for_each(|footage| footage.make())
}

impl Recipe {
    /// The folder with `master.m3u8`.
    fn output(&self) -> PathBuf {
        run::target().join("media").join(self.folder)
    }

    fn make(&self) -> Result<()> {
        let clip = run::root().join("demo/media/bigbuckbunny.mp4");
        let output = self.output();
        let arguments = self.arguments(&clip);
        let inputs = Inputs::default().text(&arguments.join("\n")).path(&clip)?;
        stamp::fresh(&format!("media-{}", self.name), inputs, &[output.join("master.m3u8")], || {
            let part = run::target().join("media").join(format!("{}.part", self.name));
            run::empty_folder(&part)?;
            self.encode(&arguments, &part)?;
            run::replace_folder(&part, &output)
        })?;
        Ok(())
    }

    /// ffmpeg's arguments; it runs in the folder of the ladder.
    fn arguments(&self, clip: &Path) -> Vec<String> {
        let count = self.renditions.len();
        let labels = |prefix: &str| (0..count).map(|i| format!("[{prefix}{i}]")).collect::<String>();
        let mut graph = format!("[0:v]fps={FPS},split={count}{};", labels("s"));
        for (i, rendition) in self.renditions.iter().enumerate() {
            let Rendition { width, height, .. } = rendition;
            let (size, border, margin) = (height / 20, height / 60, height / 24);
            // Time and frame number: every picture of the film is unlike every other.
            graph += &format!(
                "[s{i}]scale={width}:{height}:flags=bicubic,\
                 drawtext=fontfile={FONT}:text='%{{pts\\:gmtime\\:0\\:%M\\\\\\:%S}}  %{{n}}':fontsize={size}:\
                 fontcolor=white:box=1:boxcolor=black@0.45:boxborderw={border}:x={margin}:y={margin}[v{i}];"
            );
        }
        graph += "[0:a]aresample=48000,aformat=channel_layouts=stereo[a]";

        let clip = clip.to_string_lossy();
        let mut arguments: Vec<String> = Vec::new();
        arguments.extend(words("-hide_banner -nostdin -loglevel error -y -stream_loop -1 -i"));
        arguments.extend([clip.into_owned(), "-filter_complex".into(), graph]);
        for i in 0..count {
            arguments.extend(words(&format!("-map [v{i}]")));
        }
        let Self { seconds, segment, preset, .. } = self;
        let gop = FPS * segment;
        arguments.extend(words(&format!(
            "-map [a] -t {seconds} -c:v libx264 -preset {preset} -profile:v main -pix_fmt yuv420p \
             -g {gop} -keyint_min {gop} -sc_threshold 0"
        )));
        for (i, Rendition { rate, .. }) in self.renditions.iter().enumerate() {
            let (most, buffer) = (rate * 5 / 4, rate * 2);
            arguments.extend(words(&format!("-b:v:{i} {rate}k -maxrate:v:{i} {most}k -bufsize:v:{i} {buffer}k")));
        }
        arguments.extend(words(&format!(
            "-c:a aac -b:a 96k -f hls -hls_time {segment} -hls_playlist_type vod -hls_segment_type fmp4 \
             -hls_flags independent_segments -hls_fmp4_init_filename init.mp4 -hls_segment_filename %v/%03d.m4s \
             -master_pl_name master.m3u8 -var_stream_map"
        )));
        let videos = self.renditions.iter().enumerate();
        let mut streams: Vec<String> = videos.map(|(i, r)| format!("v:{i},agroup:audio,name:{}", r.name)).collect();
        streams.push("a:0,agroup:audio,default:yes,language:en,name:audio".into());
        arguments.push(streams.join(" "));
        arguments.extend(words("-progress pipe:1 %v/index.m3u8"));
        arguments
    }

    fn encode(&self, arguments: &[String], folder: &Path) -> Result<()> {
        let mut command = run::program("ffmpeg", arguments);
        command.current_dir(folder).stdout(Stdio::piped());
        let mut child = command.spawn().context("ffmpeg could not be started")?;
        let mut progress = Progress::new(format!("encoding {} s of footage ({})", self.seconds, self.name));
        if let Some(output) = child.stdout.take() {
            for line in BufReader::new(output).lines() {
                let line = line.context("ffmpeg's progress could not be read")?;
                let done = line.strip_prefix("out_time_us=").and_then(|text| text.parse::<u64>().ok());
                if let Some(done) = done {
                    progress.show(done / 10_000 / u64::from(self.seconds));
                }
            }
        }
        let status = child.wait().context("ffmpeg could not be waited for")?;
        if !status.success() {
            bail!("ffmpeg failed ({status})");
        }
        progress.end();
        Ok(())
    }
}

/// The words of an argument list without spaces in them.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split_whitespace().map(Into::into)
}

/// A line that counts to 100 %: in place on a terminal, in steps of 20 elsewhere.
struct Progress {
    what: String,
    shown: Option<u64>,
    terminal: bool,
}

impl Progress {
    fn new(what: String) -> Self {
        let mut progress = Self { what, shown: None, terminal: std::io::stderr().is_terminal() };
        progress.show(0);
        progress
    }

    fn show(&mut self, percent: u64) {
        let percent = percent.min(100);
        let step = if self.terminal { 1 } else { 20 };
        if self.shown.is_some_and(|shown| percent / step <= shown / step) {
            return;
        }
        self.shown = Some(percent);
        if self.terminal {
            let filled = percent as usize / 4;
            eprint!("\r{} [{}{}] {percent:3} %", self.what, "█".repeat(filled), "·".repeat(25 - filled));
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{} {percent} %", self.what);
        }
    }

    fn end(&mut self) {
        self.show(100);
        if self.terminal {
            eprintln!();
        }
    }
}
