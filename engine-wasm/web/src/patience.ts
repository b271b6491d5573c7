/** When a swarm begins: not while a start goes well by itself. */

import { START_LOOK_MS, START_PATIENCE_MS } from "./limits.js";

/** How a start goes. */
export interface Start {
  /** There is something to play. */
  playable(): boolean;
  /** A load has shown that the server's line is slow. */
  slow(): boolean;
}

/**
 * The core, its connections and what they bring take time of the machine. A start that plain HTTP brings at once gets all of it:
 * the swarm begins with the picture, and sooner only where a load is slow and peers may help.
 */
export class Patience {
  private from = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private over = false;

  /** `again` is called when it is time to ask again. */
  constructor(
    private start: Start,
    private again: () => void,
  ) {}

  /** Whether the swarm may begin. The first to ask begins the waiting. */
  isOver(): boolean {
    const now = performance.now();
    this.from ||= now;
    const { start } = this;
    this.over ||= start.playable() || start.slow() || now - this.from > START_PATIENCE_MS;
    if (!this.over) {
      this.timer ??= setTimeout(() => {
        this.timer = undefined;
        this.again();
      }, START_LOOK_MS);
    }
    return this.over;
  }

  stop(): void {
    clearTimeout(this.timer);
  }
}
