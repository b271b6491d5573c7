/** How late this page's timers come: a machine, or a page, without time to spare. */

/** What one timer weighs against those before it. */
const WEIGHT = 0.25;

let mean = 0;

/** A timer that was due at `dueMs` of `performance.now()` came now. In hidden pages all are late, which says nothing. */
export function timerCame(dueMs: number): void {
  const late = document.visibilityState === "hidden" ? 0 : Math.max(0, performance.now() - dueMs);
  mean += WEIGHT * (late - mean);
}

/** How late timers came lately, in ms. */
export function lateness(): number {
  return mean;
}
