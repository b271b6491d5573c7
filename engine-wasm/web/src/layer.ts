/** A layer over a video: follows its place, takes no focus, leaves the page's own styles and layout alone. */

const BASE = `
:host { all: initial; position: fixed; z-index: 2147483647; pointer-events: none; contain: layout style; overflow: hidden }
* { box-sizing: border-box }
[hidden] { display: none !important }
`;

/** A narrower video has no room for anything, in CSS pixels. */
const MIN_WIDTH = 200;

export class Layer {
  readonly root: ShadowRoot;
  private host = document.createElement("div");
  private place: CSSStyleDeclaration;
  private end = new AbortController();
  private resize: ResizeObserver;

  constructor(
    private video: HTMLVideoElement,
    css: string,
  ) {
    this.root = this.host.attachShadow({ mode: "closed" });
    // No style element and no attribute: a strict Content-Security-Policy allows neither.
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(BASE + css);
    this.root.adoptedStyleSheets = [sheet];
    this.place = (sheet.cssRules[0] as CSSStyleRule).style;
    const follow = (): void => this.follow();
    const { signal } = this.end;
    addEventListener("scroll", follow, { capture: true, passive: true, signal });
    addEventListener("resize", follow, { signal });
    document.addEventListener("fullscreenchange", follow, { signal });
    this.resize = new ResizeObserver(follow);
    this.resize.observe(video);
    follow();
  }

  /** Goes where the video is. Called by itself on scroll and resize; call it when the layout may have moved. */
  follow(): void {
    const { video, host, place } = this;
    const full = document.fullscreenElement;
    const parent = full && full !== video && full.contains(video) ? full : document.body;
    if (parent && host.parentNode !== parent) parent.append(host);
    const { left, top, width, height } = video.getBoundingClientRect();
    for (const [name, value] of Object.entries({ left, top, width, height })) place.setProperty(name, `${value}px`);
    host.hidden = !video.isConnected || width < MIN_WIDTH || full === video;
    place.setProperty("display", host.hidden ? "none" : "block");
  }

  remove(): void {
    this.end.abort();
    this.resize.disconnect();
    this.host.remove();
  }
}

/** An element with a class and text. */
export function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  className: string,
  text = "",
): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}
