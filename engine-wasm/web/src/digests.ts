/**
 * Hashes that stand beside the playlists instead of in them: PeerTube's `segments-sha256.json`. Its keys are names of
 * files, its values the SHA-256 of byte ranges by `first-last`, both inclusive. (Of a live stream they are those of whole
 * files, without a size: such are not exchanged.)
 */

/** Largest list that is read, in characters. */
const MAX_LENGTH = 16 * 1024 * 1024;

const SHA256 = /^[0-9a-f]{64}$/i;

export class Digests {
  /** `unusable`: missing, or no such list. */
  state: "loading" | "ready" | "unusable" = "loading";
  /** By name and range. */
  private known = new Map<string, string>();
  private names = new Set<string>();

  /** `read` gets the list; `done` is called when its state is known. */
  constructor(read: Promise<{ status: number; text: string }>, done: () => void) {
    read
      .then(({ status, text }) => {
        if (status === 200 && text.length <= MAX_LENGTH) this.add(JSON.parse(text) as unknown);
      })
      // The network is away, or this is no JSON.
      .catch(() => {})
      .then(() => {
        this.state = this.known.size > 0 ? "ready" : "unusable";
        done();
      });
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

  /** Takes in what is well-formed. */
  private add(list: unknown): void {
    for (const [name, ranges] of Object.entries(list ?? {})) {
      if (typeof ranges !== "object") continue;
      for (const [range, hash] of Object.entries((ranges as object | null) ?? {})) {
        if (typeof hash !== "string" || !SHA256.test(hash)) continue;
        this.known.set(`${name} ${range}`, hash);
        this.names.add(name);
      }
    }
  }
}

/** The last part of a URL's path, as it is written. */
function nameOf(url: string): string {
  return (url.split(/[?#]/)[0] as string).split("/").pop() as string;
}
