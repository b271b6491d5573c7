/** What the core asks of the page: the other side of `engine-wasm/src/host.rs`, where each method is described. */
export interface CoreHost {
  resolve(base: string, reference: string): string | undefined;
  digest(url: string, start: number, end: number): Uint8Array | undefined;
  indexed(
    kind: number,
    video: string | undefined,
    signaling: string | undefined,
    complete: boolean,
    problem: number,
    objects: number,
    segments: number,
    ended: boolean,
  ): void;
  fetch(
    fetch: number,
    object: number,
    url: string,
    start: number,
    end: number,
    ranged: boolean,
    reload: boolean,
    firstPiece: number,
    size: number,
  ): void;
  fetchList(fetch: number, url: string, start: number, len: number, ranged: boolean): void;
  abortFetch(fetch: number): void;
  sendControl(peer: number, bytes: Uint8Array): void;
  sendFrame(peer: number, header: Uint8Array, object: number, piece: number, offset: number, len: number): number;
  keep(object: number, piece: number, bytes: Uint8Array): void;
  evict(object: number): void;
  deliver(request: number, object: number): void;
  deliverUnverified(request: number, fetch: number): void;
  originDiffers(object: number): void;
  check(object: number, size: number, check: number): void;
  fail(request: number, status: number): void;
  close(peer: number, banned: boolean, reason: string): void;
  reloadPlaylist(url: string): void;
  text(name: string, text: Uint8Array): void;
  textAsked(peer: number, name: string): void;
  refused(what: number, object: number, peer: number): void;
  peer(peer: number, kind: number, open: boolean, rttMs: number, down: number, up: number, pieces: number): void;
}

/** An exception must not unwind through the core: it ends here, in the console. */
export function guarded(host: CoreHost): CoreHost {
  const guarded: Record<string, unknown> = {};
  for (const [name, method] of Object.entries(host) as [string, (...args: unknown[]) => unknown][]) {
    guarded[name] = (...args: unknown[]): unknown => {
      try {
        return method(...args);
      } catch (error) {
        console.error(`marea: ${name}`, error);
        return undefined;
      }
    };
  }
  return guarded as unknown as CoreHost;
}
