/**
 * Hashes that stand beside the playlists instead of in them: PeerTube's `segments-sha256.json`. Its keys are names of
 * files, its values the SHA-256 of a whole file, or those of its byte ranges by `first-last`, both inclusive.
 */

/** Largest list that is read, in characters. */
const MAX_LENGTH = 16 * 1024 * 1024;

/** Least time between two reads of a list that grows, in ms, and the most that chance adds, so that viewers do not ask in step. */
const REREAD_MS = 1_000;
const JITTER_MS = 300;

/** Reads in a row that brought nothing new, after which it is left alone until a playlist names something new again. */
const MAX_VAIN = 10;

const SHA256 = /^[0-9a-f]{64}$/i;

export class Digests {
  /** `unusable`: missing, or no such list. One that was read once stays `ready`. */
  state: "loading" | "ready" | "unusable" = "loading";
  /** By name, and by name and range. What was said first holds: a later list only adds. */
  private known = new Map<string, string>();
  private names = new Set<string>();
  private vain = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** `changed` is called after each read that brought something, or failed while there was nothing. */
  constructor(
    readonly url: string,
    private fetchText: (url: string) => Promise<{ status: number; text: string }>,
    private changed: () => void,
  ) {
    void this.read();
  }

  /** Whether a media playlist names a file of the list. */
  covers(playlist: string): boolean {
    return playlist.split(/\r?\n/).some((line) => !line.startsWith("#") && this.names.has(nameOf(line)));
  }

  /** The SHA-256 of bytes `[start, end)` of a file. */
  digest(url: string, start: number, end: number): Uint8Array | undefined {
    const hex = this.known.get(`${nameOf(url)} ${start}-${end - 1}`);
    return hex === undefined ? undefined : Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
  }

  /** Something is not in the list yet: it is read again soon. */
  incomplete(): void {
    if (this.timer !== undefined || this.vain >= MAX_VAIN) return;
    this.timer = setTimeout(
      () => {
        this.timer = undefined;
        void this.read();
      },
      REREAD_MS + Math.random() * JITTER_MS,
    );
  }

  stop(): void {
    clearTimeout(this.timer);
    this.changed = () => {};
  }

  private async read(): Promise<void> {
    let added = 0;
    try {
      const { status, text } = await this.fetchText(this.url);
      if (status === 200 && text.length <= MAX_LENGTH) added = this.add(JSON.parse(text) as unknown);
    } catch {
      // The network is away, or this is no JSON.
    }
    const { state } = this;
    if (added > 0) this.state = "ready";
    else if (state === "loading") this.state = "unusable";
    this.vain = added > 0 ? 0 : this.vain + 1;
    if (added > 0 || state === "loading") this.changed();
  }

  /** Takes in what is new and well-formed. */
  private add(list: unknown): number {
    const before = this.known.size;
    for (const [name, value] of Object.entries(list ?? {})) {
      const ranges = typeof value === "object" && value !== null ? Object.entries(value as object) : [];
      for (const [range, hash] of ranges) {
        const key = `${name} ${range}`;
        if (typeof hash !== "string" || !SHA256.test(hash) || this.known.has(key)) continue;
        this.known.set(key, hash);
        this.names.add(name);
      }
    }
    return this.known.size - before;
  }
}

/** The last part of a URL's path, as it is written. */
function nameOf(url: string): string {
  return (url.split(/[?#]/)[0] as string).split("/").pop() as string;
}
