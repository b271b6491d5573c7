/** Verified pieces of one swarm, as the core decided to keep them. Nothing here was not hashed. */

/** Bytes in a piece; the last one of an object is shorter (`marea_swarm::PIECE_SIZE`). */
export const PIECE_SIZE = 65_536;

/** What is kept of one object. */
interface Stored {
  /** By piece number. Each is a buffer of its own, never handed out. */
  pieces: (Uint8Array<ArrayBuffer> | undefined)[];
  /** Bytes in `pieces`. */
  bytes: number;
}

export class Store {
  private objects = new Map<number, Stored>();
  private total = 0;

  /** Bytes held. */
  get bytes(): number {
    return this.total;
  }

  /** Keeps a piece. `bytes` belongs to the store from here on. */
  keep(object: number, piece: number, bytes: Uint8Array<ArrayBuffer>): void {
    let stored = this.objects.get(object);
    if (!stored) {
      stored = { pieces: [], bytes: 0 };
      this.objects.set(object, stored);
    }
    if (!stored.pieces[piece]) {
      stored.pieces[piece] = bytes;
      stored.bytes += bytes.length;
      this.total += bytes.length;
    }
  }

  /** A piece, for sending: a view that must not leave this page's hands. */
  piece(object: number, piece: number): Uint8Array<ArrayBuffer> | undefined {
    return this.objects.get(object)?.pieces[piece];
  }

  /** The whole object of `size` bytes in a fresh buffer that its receiver may transfer or detach; null if not whole. */
  copy(object: number, size: number): ArrayBuffer | null {
    const stored = this.objects.get(object);
    if (!stored || stored.bytes !== size) return null;
    const out = new Uint8Array(size);
    stored.pieces.forEach((bytes, piece) => bytes && out.set(bytes, piece * PIECE_SIZE));
    return out.buffer;
  }

  evict(object: number): void {
    this.total -= this.objects.get(object)?.bytes ?? 0;
    this.objects.delete(object);
  }

  clear(): void {
    this.objects.clear();
    this.total = 0;
  }
}
