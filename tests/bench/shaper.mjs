// Shares a thin line: each viewer has a line of its own behind the server's, and both are used in turn, a packet each.

/** Bytes sent in one turn: a packet. */
const PACKET = 1448;

/** How often bytes are let through, in ms: much shorter than any round trip that is asked for. */
const TICK = 5;

/** Unused capacity kept for the next ticks, in s: enough for a late timer, too little for a burst that helps anybody. */
const KEEP = 0.02;

/**
 * An answer on its way.
 * @typedef {{ send(chunk: Buffer): void, end(): void }} Sink
 */

class Stream {
  /** @type {Buffer[]} */
  #chunks = [];
  queued = 0;
  finished = false;

  /** @param {Sink} sink @param {() => void} drop */
  constructor(sink, drop) {
    this.sink = sink;
    this.drop = drop;
  }

  /** @param {Buffer} chunk */
  push(chunk) {
    this.#chunks.push(chunk);
    this.queued += chunk.length;
  }

  finish() {
    this.finished = true;
  }

  /** At most `most` bytes from the head. @param {number} most */
  take(most) {
    const head = this.#chunks[0];
    const part = head.subarray(0, most);
    if (part.length === head.length) this.#chunks.shift();
    else this.#chunks[0] = head.subarray(part.length);
    this.queued -= part.length;
    return part;
  }
}

export class Shaper {
  /** Streams in the order of their turns. @type {Map<string, { credit: number, streams: Stream[] }>} */
  #viewers = new Map();
  #credit = 0;

  /** @param {{ total: number, each: number }} rates In bit/s. */
  constructor({ total, each }) {
    this.total = total / 8;
    this.each = each / 8;
    let last = performance.now();
    this.timer = setInterval(() => {
      const now = performance.now();
      this.tick((now - last) / 1000);
      last = now;
    }, TICK);
  }

  /** @param {string} viewer @param {Sink} sink */
  open(viewer, sink) {
    const lines = this.#viewers.get(viewer) ?? { credit: 0, streams: /** @type {Stream[]} */ ([]) };
    this.#viewers.set(viewer, lines);
    const stream = new Stream(sink, () => {
      const at = lines.streams.indexOf(stream);
      if (at >= 0) lines.streams.splice(at, 1);
    });
    lines.streams.push(stream);
    return stream;
  }

  close() {
    clearInterval(this.timer);
  }

  /** Lets through what has become possible. @param {number} passed Seconds since the last time. */
  tick(passed) {
    const kept = Math.max(KEEP, passed);
    this.#credit = Math.min(this.#credit + this.total * passed, this.total * kept);
    for (const viewer of this.#viewers.values())
      viewer.credit = Math.min(viewer.credit + this.each * passed, this.each * kept);
    /** @type {Map<Stream, Buffer[]>} */
    const sent = new Map();
    for (let turns = true; turns;) {
      turns = false;
      for (const [name, viewer] of [...this.#viewers]) {
        const at = viewer.streams.findIndex((stream) => stream.queued > 0);
        if (at < 0 || this.#credit < PACKET || viewer.credit < PACKET) continue;
        const [stream] = viewer.streams.splice(at, 1);
        viewer.streams.push(stream);
        const part = stream.take(PACKET);
        this.#credit -= part.length;
        viewer.credit -= part.length;
        sent.set(stream, [...(sent.get(stream) ?? []), part]);
        // Whoever had a turn is last in the next one.
        this.#viewers.delete(name);
        this.#viewers.set(name, viewer);
        turns = true;
      }
    }
    for (const [stream, parts] of sent) stream.sink.send(Buffer.concat(parts));
    for (const { streams } of this.#viewers.values()) {
      for (const stream of streams.filter(({ finished, queued }) => finished && queued === 0)) {
        stream.drop();
        stream.sink.end();
      }
    }
  }
}
