/** What the viewer sees of playback: time to the first picture, stalls, buffer. Watches any media element. */

/** A `waiting` this close to the end is the end, in seconds: audio and video seldom end together. */
const END_SLACK = 0.3;

/** Two buffered ranges closer than this are one to the player, in seconds. */
const GAP = 0.1;

export class Playback {
  /** From `play` to the first picture in ms; 0 until then. */
  startupMs = 0;
  stalls = 0;
  private stalled = 0;
  /** When the present stall began; 0 if there is none. */
  private stallFrom = 0;
  private stallAt = 0;
  /** `performance.now()` when playback was asked for: at the first `play`, or by `autoplay`, whose `play` comes late. */
  private playAt = 0;
  /** The stream has no end: what looks like one is the live edge, and waiting there is a stall. */
  live = false;
  /** `play` was seen. */
  played = false;
  /** It has played since the start or the last seek: a wait from now on is a stall. */
  private settled = false;
  private events = new AbortController();

  /** `moved`: play, pause, seek or rate. */
  constructor(
    private video: HTMLVideoElement,
    private moved: () => void,
  ) {
    const on = (type: string, handle: () => void): void =>
      video.addEventListener(type, handle, { signal: this.events.signal });
    on("play", () => this.onplay());
    on("playing", () => this.onplaying());
    on("waiting", () => this.onwaiting());
    on("timeupdate", () => {
      if (this.stallFrom && video.currentTime > this.stallAt + 0.05 && video.readyState >= 3) this.endStall();
    });
    on("seeking", () => {
      this.settled = false;
      this.endStall();
      this.moved();
    });
    for (const type of ["pause", "ended", "emptied"]) {
      on(type, () => {
        this.endStall();
        this.moved();
      });
    }
    on("ratechange", () => this.moved());
    if (video.autoplay) this.playAt = performance.now();
    if (!video.paused) this.onplay();
  }

  get stalledMs(): number {
    return this.stalled + (this.stallFrom ? performance.now() - this.stallFrom : 0);
  }

  /** The playhead, in ms. */
  get positionMs(): number {
    return this.video.currentTime * 1000;
  }

  get rate(): number {
    return this.video.playbackRate;
  }

  /** Media buffered ahead of the playhead, in ms. */
  get bufferMs(): number {
    const { buffered, currentTime } = this.video;
    let end = currentTime;
    for (let i = 0; i < buffered.length; i++) {
      if (buffered.start(i) <= end + GAP && buffered.end(i) > end) end = buffered.end(i);
    }
    return (end - currentTime) * 1000;
  }

  stop(): void {
    this.endStall();
    this.events.abort();
  }

  private onplay(): void {
    this.playAt ||= performance.now();
    this.played = true;
    this.moved();
  }

  private onplaying(): void {
    if (!this.startupMs && this.playAt) this.startupMs = performance.now() - this.playAt;
    this.settled = true;
    this.endStall();
    this.moved();
  }

  private onwaiting(): void {
    const { video } = this;
    if (!this.settled || this.stallFrom || video.seeking || video.paused || video.ended) return;
    if (!this.live && video.duration - video.currentTime < END_SLACK) return;
    this.stalls += 1;
    this.stallFrom = performance.now();
    this.stallAt = video.currentTime;
  }

  private endStall(): void {
    this.stalled = this.stalledMs;
    this.stallFrom = 0;
  }
}
