/** Playlists that a player showed us: what their tags say before the core is there, and when they are read again. */

/** The main tag of a playlist, as far as it decides whether the core is worth loading. */
export interface MainTag {
  problem: "bad-tags" | "playlist-version" | null;
  video: string | null;
  signaling: string | null;
}

/** Reads `#EXT-X-MAREA`; null if there is none. The core reads everything else. */
export function mainTag(text: string): MainTag | null {
  const line = /^#EXT-X-MAREA(?::(.*))?$/m.exec(text);
  if (!line) return null;
  const attributes = attributesOf(line[1] ?? "");
  const quoted = (name: string): string | null => /^"(.+)"$/.exec(attributes.get(name) ?? "")?.[1] ?? null;
  const video = quoted("VIDEO");
  const version = attributes.get("VERSION") ?? "";
  const whole = /^\d+$/.test(version) && attributes.get("PIECE") === "65536" && video !== null;
  const problem = Number(version) > 1 ? "playlist-version" : whole && Number(version) === 1 ? null : "bad-tags";
  return { problem, video, signaling: quoted("SIGNALING") };
}

/** Attributes of a tag by their names, quotes kept. */
export function attributesOf(list: string): Map<string, string> {
  const found = [...list.matchAll(/([A-Z0-9-]+)=("[^"]*"|[^,\s]*)/g)];
  return new Map(found.map(([, name, value]) => [name as string, value as string]));
}

/** Whether it names renditions, not segments. */
export function isMultivariant(text: string): boolean {
  return /^#EXT-X-STREAM-INF:/m.test(text);
}

/** Whether it is a delta update: it leaves out what its reader has from the playlist before. */
export function isDelta(text: string): boolean {
  return /^#EXT-X-SKIP:/m.test(text);
}

/**
 * Where to read a playlist again of which `text` was read `ageMs` ago: its own URL, or that of a delta update if one is
 * offered to who has read it so lately (RFC 8216bis §6.3.7).
 */
export function updateUrl(url: string, text: string, ageMs: number): string {
  const until = /^#EXT-X-SERVER-CONTROL:(?:.*,)?\s*CAN-SKIP-UNTIL=([\d.]+)/m.exec(text)?.[1];
  if (ageMs >= Number(until ?? 0) * 500) return url;
  return `${url}${url.includes("?") ? "&" : "?"}_HLS_skip=YES`;
}

/** Whether a media playlist has no end yet. */
export function isLive(text: string): boolean {
  return !/^#EXT-X-ENDLIST/m.test(text);
}

/** Delays of re-reads while tags are missing, in ms: hashing a film takes a while, and most viewers stay longer. */
const REREAD_MS = [5_000, 10_000, 20_000, 30_000];

/** Least time between two re-reads that a neighbour's news asked for, in ms. */
const NEWS_MS = 1_000;

/** Answers to a playlist's request after which nobody is to get its video any more. */
export const WITHDRAWN = [401, 403, 404, 410];

/** Reads incomplete playlists again, by conditional requests that the player does not see. */
export class Rereader {
  private pending = new Map<string, ReturnType<typeof setTimeout>>();
  private read = new Map<string, number>();

  constructor(
    private fetchText: (url: string) => Promise<{ status: number; text: string }>,
    private arrived: (url: string, status: number, text: string) => void,
  ) {}

  /** Some are incomplete. */
  get busy(): boolean {
    return this.pending.size > 0;
  }

  /** Tags are missing in this one, or not any more. */
  incomplete(url: string, missing: boolean): void {
    const known = this.pending.get(url);
    if (!missing) {
      clearTimeout(known);
      this.pending.delete(url);
    } else if (!known) {
      this.schedule(url, 0);
    }
  }

  /** A neighbour has something that no playlist names. */
  now(url: string): void {
    const now = performance.now();
    if (now - (this.read.get(url) ?? -NEWS_MS) >= NEWS_MS) void this.reread(url);
  }

  stop(): void {
    for (const timer of this.pending.values()) clearTimeout(timer);
    this.pending.clear();
  }

  private schedule(url: string, attempt: number): void {
    const wait = REREAD_MS[Math.min(attempt, REREAD_MS.length - 1)] as number;
    const timer = setTimeout(() => {
      this.schedule(url, attempt + 1);
      void this.reread(url);
    }, wait);
    this.pending.set(url, timer);
  }

  private async reread(url: string): Promise<void> {
    this.read.set(url, performance.now());
    try {
      const { status, text } = await this.fetchText(url);
      this.arrived(url, status, text);
    } catch {
      // The network is away; the next time may do.
    }
  }
}
