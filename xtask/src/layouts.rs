//! One light film in every layout that ffmpeg makes: encoded once, then copied into segments of each kind.
//!
//! Light, so that eight pages can play it on two cores; and yet segments of several pieces, since sharing a segment of
//! one piece would show little.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{
    media::{FONT, words},
    run,
    stamp::{self, Inputs},
};

/// Length of the film in seconds.
const SECONDS: u32 = 60;

/// Frames per second.
const FPS: u32 = 24;

/// Frames between key frames: those of a segment of 4 s.
const GOP: u32 = 4 * FPS;

/// Height and kbit/s of the two renditions. Their pictures differ in size, and so do their init sections.
const PICTURES: [(u32, u32); 2] = [(180, 420), (144, 300)];

/// The film that all layouts are made from: pictures in two renditions, then sound in two languages.
const SOURCE: &str = "source.mp4";

/// The key of the encrypted layout. It protects nothing: the film is free.
const KEY: &[u8; 16] = b"not so secret 16";

/// Subtitles, so short that a test can know them.
const CAPTIONS: &str = "WEBVTT

00:00:00.000 --> 00:00:30.000
the first half

00:00:30.000 --> 00:01:00.000
the second half
";

/// What ffmpeg is told about the key: its URI for players, then its path. Without an IV ffmpeg counts.
const KEY_INFO: &str = "../film.key\n../film.key\n";

/// Two sets of renditions, each with its own group of languages: ffmpeg names renditions by number, people do not.
const GROUPS_MASTER: &str = r#"#EXTM3U
#EXT-X-VERSION:7
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="main",NAME="English",LANGUAGE="en",DEFAULT=YES,AUTOSELECT=YES,URI="main-en/index.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="main",NAME="Deutsch",LANGUAGE="de",DEFAULT=NO,AUTOSELECT=YES,URI="main-de/index.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="other",NAME="English",LANGUAGE="en",DEFAULT=YES,AUTOSELECT=YES,URI="other-en/index.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="other",NAME="Deutsch",LANGUAGE="de",DEFAULT=NO,AUTOSELECT=YES,URI="other-de/index.m3u8"
#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="text",NAME="English",LANGUAGE="en",DEFAULT=YES,AUTOSELECT=YES,URI="text/index.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=620000,RESOLUTION=320x180,CODECS="avc1.42c00d,mp4a.40.2",AUDIO="main",SUBTITLES="text"
high/index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=450000,RESOLUTION=256x144,CODECS="avc1.42c00c,mp4a.40.2",AUDIO="other",SUBTITLES="text"
low/index.m3u8
"#;

/// Two renditions with their sound in them.
const MUXED: &str = "-map 0:v:0 -map 0:a:0 -map 0:v:1 -map 0:a:0";
const MUXED_STREAMS: &str = "v:0,a:0,name:high v:1,a:1,name:low";

/// Two renditions, and two languages for each of them.
const GROUPS: &str = "-map 0:v:0 -map 0:v:1 -map 0:a:0 -map 0:a:1 -map 0:a:0 -map 0:a:1";
const GROUPS_STREAMS: &str = "v:0,agroup:main,name:high v:1,agroup:other,name:low \
     a:0,agroup:main,name:main-en a:1,agroup:main,name:main-de \
     a:2,agroup:other,name:other-en a:3,agroup:other,name:other-de";

const HLS: &str = "-c copy -f hls -hls_time 4 -hls_playlist_type vod";
const FMP4: &str = "-hls_segment_type fmp4 -hls_fmp4_init_filename init.mp4";

/// The folder with the film, and one folder for each layout.
fn folder() -> PathBuf {
    run::target().join("media/light")
}

/// The film itself.
pub(crate) fn source() -> PathBuf {
    folder().join(SOURCE)
}

/// A folder beside the film, and ffmpeg's arguments for each run in it.
struct Layout {
    name: &'static str,
    runs: Vec<Vec<String>>,
}

/// Its subtitles.
pub(crate) fn captions() -> PathBuf {
    folder().join("captions.vtt")
}

/// Makes the film and its layouts unless they are there.
///
/// # Errors
/// If ffmpeg fails.
pub(crate) fn make() -> Result<()> {
    let clip = run::root().join("demo/media/bigbuckbunny.mp4");
    let encode = encode(&clip);
    let layouts = layouts();
    let texts = [GROUPS_MASTER, CAPTIONS, KEY_INFO];
    let runs = layouts.iter().flat_map(|layout| &layout.runs).chain([&encode]).map(|run| run.join("\n"));
    let inputs = texts.iter().fold(Inputs::default().path(&clip)?, |inputs, text| inputs.text(text));
    let inputs = runs.fold(inputs, |inputs, run| inputs.text(&run));
    let mut outputs = vec![source(), captions()];
    outputs.extend(layouts.iter().map(|layout| folder().join(layout.name)));
    stamp::fresh("media-light", inputs, &outputs, || {
        eprintln!("encoding {SECONDS} s of light footage, and copying it into every layout");
        let part = run::target().join("media/light.part");
        run::empty_folder(&part)?;
        ffmpeg(&part, &encode)?;
        run::write_if_changed(&part.join("captions.vtt"), CAPTIONS.as_bytes())?;
        run::write_if_changed(&part.join("film.key"), KEY)?;
        run::write_if_changed(&part.join("key.txt"), KEY_INFO.as_bytes())?;
        for layout in &layouts {
            let folder = part.join(layout.name);
            run::empty_folder(&folder)?;
            for arguments in &layout.runs {
                ffmpeg(&folder, arguments)?;
            }
        }
        run::write_if_changed(&part.join("groups/master.m3u8"), GROUPS_MASTER.as_bytes())?;
        run::write_if_changed(&part.join("aes/film.key"), KEY)?;
        leave_ivs_to_players(&part.join("aes/high/index.m3u8"))?;
        run::replace_folder(&part, &folder())
    })?;
    Ok(())
}

/// ffmpeg's arguments for the film.
fn encode(clip: &Path) -> Vec<String> {
    let mut graph = format!("[0:v]fps={FPS},split=2[s0][s1];");
    for (i, (height, _)) in PICTURES.iter().enumerate() {
        // Time and frame number: every picture of the film is unlike every other.
        graph += &format!(
            "[s{i}]scale=-2:{height}:flags=bicubic,drawtext=fontfile={FONT}:\
             text='%{{pts\\:gmtime\\:0\\:%M\\\\\\:%S}}  %{{n}}':fontsize=16:fontcolor=white:box=1:\
             boxcolor=black@0.45:x=8:y=8[v{i}];"
        );
    }
    // The sound ends a moment before the picture. A last segment with a frame of sound alone, which ffmpeg else makes, is
    // one that hls.js 1.7 now and then never appends (it holds sound back until there is a picture), and playback never ends.
    let sound = f64::from(SECONDS) - 0.05;
    graph += &format!(
        "[0:a]aresample=48000,aformat=channel_layouts=stereo,atrim=end={sound},asplit=2[en][loud];\
         [loud]volume=0.5[de]"
    );
    let mut arguments: Vec<String> = words("-stream_loop -1 -i").collect();
    arguments.extend([clip.to_string_lossy().into_owned(), "-filter_complex".into(), graph]);
    arguments.extend(words(&format!(
        "-map [v0] -map [v1] -map [en] -map [de] -t {SECONDS} -c:v libx264 -preset ultrafast -pix_fmt yuv420p \
         -g {GOP} -keyint_min {GOP} -sc_threshold 0 -c:a aac -b:a 64k"
    )));
    for (i, (_, rate)) in PICTURES.iter().enumerate() {
        let (most, buffer) = (rate * 6 / 5, rate * 2);
        arguments.extend(words(&format!("-b:v:{i} {rate}k -maxrate:v:{i} {most}k -bufsize:v:{i} {buffer}k")));
    }
    arguments.push(SOURCE.into());
    arguments
}

fn layouts() -> Vec<Layout> {
    let hls = |options: &str, streams: &str, output: &str| {
        let mut arguments: Vec<String> = words(&format!("-i ../{SOURCE} {options}")).collect();
        arguments.extend(["-var_stream_map".into(), streams.into(), output.into()]);
        arguments
    };
    let master = "-master_pl_name master.m3u8";
    let ts = format!("{MUXED} {HLS} {master} -hls_segment_filename %v/%03d.ts");
    let single =
        format!("{MUXED} {HLS} {FMP4} {master} -hls_flags single_file -hls_segment_filename %v-fragmented.mp4");
    let groups = format!("{GROUPS} {HLS} {FMP4} -hls_segment_filename %v/%03d.m4s");
    let texts = "-i ../../captions.vtt -map 0 -c copy -f segment -segment_time 20 -segment_format webvtt \
                 -segment_list_type m3u8 -segment_list index.m3u8 %03d.vtt";
    let aes = format!(
        "{MUXED} {HLS} {master} -hls_key_info_file ../key.txt -hls_flags periodic_rekey -hls_segment_filename %v/%03d.ts"
    );
    vec![
        Layout { name: "ts", runs: vec![hls(&ts, MUXED_STREAMS, "%v/index.m3u8")] },
        // One file for each rendition, in ranges, all in one folder: as PeerTube lays it out.
        Layout { name: "single", runs: vec![hls(&single, MUXED_STREAMS, "%v.m3u8")] },
        Layout { name: "groups", runs: vec![hls(&groups, GROUPS_STREAMS, "%v/index.m3u8")] },
        Layout { name: "groups/text", runs: vec![words(texts).collect()] },
        // A key line for each segment, with the segment's number as IV.
        Layout { name: "aes", runs: vec![hls(&aes, MUXED_STREAMS, "%v/index.m3u8")] },
    ]
}

/// Takes the IVs out of a playlist. ffmpeg took each segment's number, which is what players take where there is none.
fn leave_ivs_to_players(playlist: &Path) -> Result<()> {
    let text = String::from_utf8(run::read(playlist)?).context("ffmpeg writes UTF-8")?;
    let (mut kept, mut keys) = (String::new(), 0);
    for line in text.lines() {
        match line.split_once(",IV=") {
            Some((key, _)) if keys == 0 => kept.extend([key, "\n"]),
            Some(_) => {}
            None => kept.extend([line, "\n"]),
        }
        keys += usize::from(line.starts_with("#EXT-X-KEY:"));
    }
    if keys < 2 {
        bail!("{} has {keys} keys, not one for each segment", playlist.display());
    }
    run::write_if_changed(playlist, kept.as_bytes())
}

/// Runs ffmpeg in a folder.
fn ffmpeg(folder: &Path, arguments: &[String]) -> Result<()> {
    let mut command = run::program("ffmpeg", words("-hide_banner -nostdin -loglevel error -y"));
    run::check_quietly(command.args(arguments).current_dir(folder))
}
