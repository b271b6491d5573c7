// The film as a row of blocks, each in the colours of who brought it.

/** What this page's video is made of (`xtask`'s recipe "demo"). */
const SEGMENTS = 45;

/** Shows who brought each block of the film. */
export class Film {
  /**
   * @param {HTMLElement} element
   * @param {HTMLVideoElement} video
   */
  constructor(element, video) {
    this.video = video;
    this.blocks = Array.from({ length: SEGMENTS }, () => ({
      element: element.appendChild(document.createElement("i")),
      server: 0,
      viewers: 0,
    }));
  }

  /**
   * A segment arrived (`detail` of the session's `segment` event). Sound and picture of the same time share a block.
   * @param {{ url: string, http: number, viewers: number, mirrors: number, edge: number }} detail
   */
  arrived(detail) {
    const number = /(\d+)\.m4s$/.exec(new URL(detail.url).pathname);
    const block = number && this.blocks[Number(number[1])];
    if (!block) return;
    block.server += detail.http + detail.edge;
    block.viewers += detail.viewers + detail.mirrors;
    const share = block.viewers / Math.max(1, block.server + block.viewers);
    block.element.classList.add("filled");
    block.element.style.setProperty("--share", `${Math.round(share * 100)}%`);
  }

  /** Marks the block that plays. */
  update() {
    const { currentTime, duration } = this.video;
    const at = duration > 0 ? Math.floor((currentTime / duration) * SEGMENTS) : -1;
    this.blocks.forEach((block, number) => block.element.classList.toggle("now", number === at));
  }
}
