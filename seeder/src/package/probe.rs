//! What a file is, by ffprobe.

use std::{collections::HashMap, path::Path};

use serde::Deserialize;

use super::{
    PackageError,
    ffmpeg::{self, FFPROBE},
};

/// Most pixels of a picture: 8K, and what decoders can bear.
pub(super) const MAX_PIXELS: u64 = 8192 * 4320;
/// Longest film, in seconds.
pub(super) const MAX_SECONDS: f64 = 24.0 * 3600.0;

/// A media file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Probed {
    /// Seconds.
    pub(super) duration: f64,
    pub(super) video: Video,
    pub(super) audio: Vec<Track>,
    /// Those of text.
    pub(super) subtitles: Vec<Track>,
}

/// The first video stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Video {
    /// Index in the file.
    pub(super) index: u32,
    pub(super) codec: String,
    pub(super) pixels: String,
    /// As shown: rotated, and with square pixels.
    pub(super) width: u32,
    pub(super) height: u32,
    /// Frames per second.
    pub(super) fps: f64,
    pub(super) interlaced: bool,
    /// What is stored is what is shown.
    pub(super) upright: bool,
    /// Bits per second; none if the file does not say.
    pub(super) bitrate: Option<u64>,
    /// Times of key frames from the first frame on, in seconds.
    pub(super) keys: Vec<f64>,
}

/// A stream of sound or text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Track {
    pub(super) index: u32,
    pub(super) codec: String,
    pub(super) profile: String,
    pub(super) channels: u32,
    /// BCP 47 or ISO 639-2, as in the file.
    pub(super) language: Option<String>,
    pub(super) title: Option<String>,
}

#[derive(Deserialize)]
struct Output {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    format: Format,
}

#[derive(Default, Deserialize)]
struct Format {
    duration: Option<String>,
}

#[derive(Deserialize)]
struct Stream {
    index: u32,
    #[serde(default)]
    codec_type: String,
    #[serde(default)]
    codec_name: String,
    #[serde(default)]
    profile: String,
    #[serde(default)]
    pix_fmt: String,
    #[serde(default)]
    width: u32,
    #[serde(default)]
    height: u32,
    #[serde(default)]
    sample_aspect_ratio: String,
    #[serde(default)]
    avg_frame_rate: String,
    #[serde(default)]
    r_frame_rate: String,
    #[serde(default)]
    field_order: String,
    bit_rate: Option<String>,
    #[serde(default)]
    channels: u32,
    #[serde(default)]
    tags: HashMap<String, String>,
    #[serde(default)]
    disposition: HashMap<String, i32>,
    #[serde(default)]
    side_data_list: Vec<SideData>,
}

#[derive(Deserialize)]
struct SideData {
    rotation: Option<f64>,
}

/// Asks ffprobe.
///
/// # Errors
/// There is no ffprobe, or the file is nothing to package.
pub(super) fn probe(source: &Path) -> Result<Probed, PackageError> {
    let refused = |reason: &str| PackageError::Source { path: source.to_owned(), reason: reason.to_owned() };
    let json = ffmpeg::output(FFPROBE, source, &["-print_format", "json", "-show_streams", "-show_format"])?;
    let output: Output = serde_json::from_str(&json).map_err(|_| refused("ffprobe's answer is not understood"))?;
    let duration: f64 = output.format.duration.and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let is_cover = |stream: &Stream| stream.disposition.get("attached_pic") == Some(&1);
    let stream = output
        .streams
        .iter()
        .find(|stream| stream.codec_type == "video" && !is_cover(stream))
        .ok_or_else(|| refused("it has no video"))?;
    if u64::from(stream.width) * u64::from(stream.height) > MAX_PIXELS {
        return Err(refused(&format!("its picture of {} × {} is too large", stream.width, stream.height)));
    }
    if stream.width == 0 || stream.height == 0 {
        return Err(refused("its picture has no size, or one beyond all bounds"));
    }
    if !(duration > 0.0 && duration <= MAX_SECONDS) {
        return Err(refused("it says no length, or one of more than 24 hours"));
    }
    let mut video = picture(stream);
    video.keys = keys(source, stream.index)?;
    let tracks = |kind: &str, codecs: Option<&[&str]>| {
        let fits = |stream: &&Stream| {
            stream.codec_type == kind && codecs.is_none_or(|codecs| codecs.contains(&stream.codec_name.as_str()))
        };
        output.streams.iter().filter(fits).map(track).collect()
    };
    let text = ["subrip", "ass", "ssa", "mov_text", "webvtt", "text"];
    Ok(Probed { duration, video, audio: tracks("audio", None), subtitles: tracks("subtitle", Some(&text)) })
}

fn picture(stream: &Stream) -> Video {
    let rotation = stream.side_data_list.iter().find_map(|data| data.rotation).unwrap_or(0.0);
    let square = match ratio(&stream.sample_aspect_ratio.replace(':', "/")) {
        Some(ratio) if ratio > 0.1 && ratio < 10.0 => ratio,
        _ => 1.0,
    };
    let width = (f64::from(stream.width) * square).round() as u32;
    let turned = (rotation.abs() - 90.0).abs() < 1.0 || (rotation.abs() - 270.0).abs() < 1.0;
    let (width, height) = if turned { (stream.height, width) } else { (width, stream.height) };
    let fps = ratio(&stream.avg_frame_rate).filter(|fps| *fps > 0.0).or_else(|| ratio(&stream.r_frame_rate));
    Video {
        index: stream.index,
        codec: stream.codec_name.clone(),
        pixels: stream.pix_fmt.clone(),
        width,
        height,
        fps: fps.unwrap_or(25.0).clamp(1.0, 240.0),
        interlaced: !matches!(stream.field_order.as_str(), "" | "progressive" | "unknown"),
        upright: rotation == 0.0 && (square - 1.0).abs() < 0.001,
        bitrate: stream.bit_rate.as_ref().and_then(|text| text.parse().ok()),
        keys: Vec::new(),
    }
}

fn track(stream: &Stream) -> Track {
    let tag = |name: &str| stream.tags.get(name).filter(|text| !text.is_empty() && *text != "und").cloned();
    Track {
        index: stream.index,
        codec: stream.codec_name.clone(),
        profile: stream.profile.clone(),
        channels: stream.channels,
        language: tag("language"),
        title: tag("title"),
    }
}

/// `25/1` as a number.
fn ratio(text: &str) -> Option<f64> {
    let (top, bottom) = text.split_once('/')?;
    let (top, bottom): (f64, f64) = (top.parse().ok()?, bottom.parse().ok()?);
    (bottom != 0.0).then(|| top / bottom)
}

/// Times of key frames, from the first frame on; packets only, nothing is decoded.
fn keys(source: &Path, stream: u32) -> Result<Vec<f64>, PackageError> {
    let stream = stream.to_string();
    let options = ["-select_streams", &stream, "-show_entries", "packet=pts_time,flags", "-print_format", "csv=p=0"];
    let lines = ffmpeg::output(FFPROBE, source, &options)?;
    let mut first = f64::INFINITY;
    let mut keys = Vec::new();
    for line in lines.lines() {
        let mut fields = line.split(',');
        let (Some(time), Some(flags)) = (fields.next().and_then(|time| time.parse::<f64>().ok()), fields.next()) else {
            continue;
        };
        first = first.min(time);
        if flags.starts_with('K') {
            keys.push(time);
        }
    }
    Ok(keys.into_iter().map(|time| time - first).collect())
}
