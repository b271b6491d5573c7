/** When a swarm begins: not while a start goes well by itself. */

import { lateness, timerCame } from "./lateness.js";
import { BUSY_MS, BUSY_PATIENCE_MS, START_LOOK_MS, START_PATIENCE_MS } from "./limits.js";

/** How a start goes. */
export interface Start {
  /** There is something to play. */
  playable(): boolean;
  /** A load has shown that the server's line is slow. */
  slow(): boolean;
}

/**
 * The core, its connections and what they bring take time of the machine. A start that plain HTTP brings at once gets all of it:
 * the swarm begins with the picture, and sooner only where a load is slow and peers may help. A machine without time to spare
 * is late with everything, which is no fault of the server's, and gets it back first.
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
    const waited = now - this.from;
    const busy = lateness() > BUSY_MS && waited < BUSY_PATIENCE_MS;
    this.over ||= !busy && (start.playable() || start.slow() || waited > START_PATIENCE_MS);
    if (!this.over) {
      this.timer ??= setTimeout(() => {
        timerCame(now + START_LOOK_MS);
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
