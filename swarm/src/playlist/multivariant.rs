//! Multivariant playlists.

use super::{
    Multivariant, PlaylistError, Rendition, RenditionKind, Resolve, Variant,
    text::{Context, Line, lines},
};
use crate::{
    ids::MAX_SEGMENTS,
    tags::{Tag, attributes::Attributes},
};

/// Reads a text that was found to be no media playlist.
pub(super) fn parse(text: &str, url: &str, resolve: &Resolve<'_>) -> Result<Multivariant, PlaylistError> {
    let mut context = Context::new(url, resolve);
    let mut variants = Vec::new();
    let mut renditions = Vec::new();
    // Attributes of an EXT-X-STREAM-INF whose URI is still to come.
    let mut pending: Option<Attributes<'_>> = None;
    for (_, line) in lines(text) {
        match line {
            Line::Tag("-X-DEFINE", value) => context.define(Attributes(value)),
            Line::Tag("-X-STREAM-INF", value) => pending = Some(Attributes(value)),
            Line::Tag("-X-MEDIA", value) => renditions.push(rendition(&mut context, Attributes(value))?),
            Line::Marea(Ok(Tag::Marea(tag))) => context.marea(Ok(tag)),
            Line::Marea(Err(error)) => context.marea(Err(error)),
            Line::Marea(Ok(_)) | Line::Tag(..) => {}
            Line::Uri(uri) => {
                if let Some(list) = pending.take()
                    && let Some(url) = context.url(uri)?
                {
                    let audio = match list.get("AUDIO") {
                        Some(group) => context.name(group)?,
                        None => None,
                    };
                    variants.push(Variant { url, bandwidth: list.integer("BANDWIDTH").unwrap_or(0), audio });
                }
            }
        }
        if variants.len() + renditions.len() > MAX_SEGMENTS {
            return Err(PlaylistError::TooMany);
        }
    }
    if variants.is_empty() && renditions.is_empty() {
        return Err(PlaylistError::Nothing);
    }
    let (tag, tag_error) = context.into_tag();
    Ok(Multivariant { url: url.to_owned(), tag, tag_error, variants, renditions })
}

fn rendition(context: &mut Context<'_>, list: Attributes<'_>) -> Result<Rendition, PlaylistError> {
    Ok(Rendition {
        url: match list.get("URI") {
            Some(uri) => context.url(uri)?,
            None => None,
        },
        kind: match list.get("TYPE") {
            Some("AUDIO") => RenditionKind::Audio,
            Some("VIDEO") => RenditionKind::Video,
            Some("SUBTITLES") => RenditionKind::Subtitles,
            _ => RenditionKind::Other,
        },
        group: context.name(list.get("GROUP-ID").unwrap_or(""))?.unwrap_or_default(),
        name: context.name(list.get("NAME").unwrap_or(""))?.unwrap_or_default(),
    })
}
