/** URLs: of this script, of signaling, and what looks like HLS. */

/** URL of this script, known only while it runs for the first time. Undefined in Node. */
export const scriptUrl: string | undefined =
  (typeof document === "object" && (document.currentScript as HTMLScriptElement | null)?.src) || import.meta.url;

/** What decides which signaling server is used. All URLs are absolute. */
export interface SignalingChoice {
  /** Of the attribute or option. */
  configured: string[];
  /** Of the playlist's tag. */
  tag: string | null;
  /** The playlist's own URL, after redirects. */
  playlist: string;
  page: string;
  script: string | undefined;
  /** Every playlist seen is signed by a key that the page pins. */
  signed: boolean;
}

/**
 * Signaling servers that may be tried, in order (design C2): those of the first source that names one which is allowed.
 * A playlist of a third party's server must not choose where the page's viewers are gathered.
 * @returns An empty list if every candidate is refused.
 */
export function signalingUrls(choice: SignalingChoice): string[] {
  const { configured, tag, playlist, page, script, signed } = choice;
  const own = [page, script].some((url) => url !== undefined && originOf(url) === originOf(playlist));
  const sources = [
    configured,
    (own || signed) && tag ? [tag] : [],
    own ? beside(playlist) : [],
    script ? beside(script) : [],
  ];
  for (const source of sources) {
    const allowed = source.filter((url) => isAllowed(url, page));
    if (allowed.length > 0) return [...new Set(allowed)];
  }
  return [];
}

/** `wss:`, or `ws:` from an http page. */
function isAllowed(url: string, page: string): boolean {
  const protocol = parse(url)?.protocol;
  return protocol === "wss:" || (protocol === "ws:" && parse(page)?.protocol === "http:");
}

function beside(url: string): string[] {
  const parsed = parse(url);
  if (!parsed || !/^https?:$/.test(parsed.protocol)) return [];
  return [`${parsed.protocol === "http:" ? "ws" : "wss"}://${parsed.host}/signal`];
}

export function originOf(url: string): string {
  return parse(url)?.origin ?? "";
}

/** Absolute, without fragment; as given if it is no URL. */
export function absolute(url: string, base?: string): string {
  const parsed = parse(url, base);
  if (!parsed) return url;
  parsed.hash = "";
  return parsed.href;
}

/** One name for a playlist, however low-latency HLS asks for it. */
export function playlistUrl(url: string, base: string): string {
  const parsed = parse(absolute(url, base));
  if (!parsed?.search.includes("_HLS_")) return absolute(url, base);
  for (const name of [...parsed.searchParams.keys()]) if (name.startsWith("_HLS_")) parsed.searchParams.delete(name);
  return parsed.href;
}

/** Whether a source is HLS: by its type if it has one, else by the end of its path. */
export function isHls(url: string, type?: string | null): boolean {
  if (type) return /^(application\/vnd\.apple\.mpegurl|(application|audio)\/(x-)?mpegurl)\s*(;|$)/i.test(type.trim());
  if (/^(blob|data|mediastream):/i.test(url)) return false;
  return /\.m3u8$/i.test(parse(url, "http://page.invalid/")?.pathname ?? "");
}

function parse(url: string, base?: string): URL | undefined {
  try {
    return new URL(url, base);
  } catch {
    return undefined;
  }
}
