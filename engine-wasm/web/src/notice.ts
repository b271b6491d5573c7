/** What the viewer sees of sharing: one line at the first visit, and a small mark that opens the switch. */

import { remember, remembered } from "./consent.js";
import { element, Layer } from "./layer.js";
import type { Session } from "./session.js";
import type { SessionStats } from "./types.js";

/** The line leaves by itself after this time, in ms. */
const NOTICE_MS = 10_000;

const CSS = `
.line {
  pointer-events: auto; position: absolute; left: 10px; right: 10px; top: 10px; margin: 0 auto; width: fit-content;
  max-width: calc(100% - 20px); display: flex; flex-wrap: wrap; align-items: center; gap: 6px 14px; padding: 8px 8px 8px 16px;
  border-radius: 18px; background: rgb(14 22 28 / .88); color: #fff; box-shadow: 0 2px 14px rgb(0 0 0 / .4);
  font: 13px/1.4 system-ui, sans-serif; animation: come .25s ease-out;
}
.line span { flex: 1 1 240px }
.line div { display: flex; gap: 6px; margin-left: auto }
button { font: inherit; color: inherit; border: 0; cursor: pointer }
.line button { padding: 5px 14px; border-radius: 12px; background: rgb(255 255 255 / .14); white-space: nowrap }
.line button:hover { background: rgb(255 255 255 / .26) }
.line .main { background: #7fe0d3; color: #06302b; font-weight: 600 }
.line .main:hover { background: #a5efe5 }
.mark {
  pointer-events: auto; position: absolute; right: 10px; top: 10px; width: 26px; height: 26px; padding: 5px;
  border-radius: 50%; background: rgb(14 22 28 / .55); color: #7fe0d3; opacity: .75; transition: opacity .2s;
}
.mark:hover, .mark:focus-visible { opacity: 1; background: rgb(14 22 28 / .9) }
.mark.off { color: #c8ccd0; opacity: .5 }
button:focus-visible { outline: 2px solid #fff; outline-offset: 1px }
svg { display: block; width: 16px; height: 16px; fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round }
@keyframes come { from { opacity: 0; transform: translateY(-6px) } }
@media (prefers-reduced-motion: reduce) { .line { animation: none } }
`;

/** Two waves: the tide that carries. */
const WAVES = "M1 6c2.3-3 4.7-3 7 0s4.7 3 7 0M1 11c2.3-3 4.7-3 7 0s4.7 3 7 0";

/** Shows the line and the mark for a session, for as long as it lives. */
export function showNotice(session: Session): void {
  let notice: Notice | undefined;
  const look = (): void => {
    const { video, state, reasons, sharing } = session;
    const asked = reasons.includes("consent-pending") && session.hashed;
    if (!notice && video && (asked || sharing) && session.played) notice = new Notice(session, video);
    notice?.update(asked, sharing);
    if (state === "stopped") {
      session.removeEventListener("state", look);
      session.removeEventListener("stats", look);
      notice?.remove();
    }
  };
  session.addEventListener("state", look);
  session.addEventListener("stats", look);
}

class Notice {
  private layer: Layer;
  private mark = element("button", "mark");
  private line: HTMLElement | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private asked = false;
  private sharing = false;
  /** The first line was shown. */
  private told = false;

  constructor(
    private session: Session,
    video: HTMLVideoElement,
  ) {
    this.layer = new Layer(video, CSS);
    this.mark.type = "button";
    this.mark.append(icon());
    this.mark.onclick = () => (this.line ? this.close() : this.open());
    this.layer.root.append(this.mark);
  }

  update(asked: boolean, sharing: boolean): void {
    const answered = asked !== this.asked;
    Object.assign(this, { asked, sharing });
    this.layer.follow();
    this.mark.classList.toggle("off", !sharing);
    const name = sharing ? "Viewers share this video" : "This video is not shared";
    this.mark.title = name;
    this.mark.ariaLabel = `${name}. Change`;
    if (answered && this.told && this.line) this.close();
    if (!this.told && (asked || remembered() === null)) {
      this.open(NOTICE_MS);
      if (!asked) remember("seen");
    }
    this.told = true;
  }

  remove(): void {
    clearTimeout(this.timer);
    this.layer.remove();
  }

  /** Opens the line; for `ms`, or until it is answered. */
  private open(ms?: number): void {
    this.close();
    const line = element("div", "line");
    line.role = "status";
    const buttons = element("div", "");
    const button = (text: string, className: string, action: () => void): void => {
      const made = element("button", className, text);
      made.type = "button";
      made.onclick = () => {
        this.close();
        action();
      };
      buttons.append(made);
    };
    if (this.sharing) {
      button("Turn off", "", () => remember("no"));
      button("OK", "main", () => remember("yes"));
    } else {
      button("No", "", () => remember("no"));
      button("Share", "main", () => remember("yes"));
    }
    line.append(element("span", "", this.text(ms === undefined)), buttons);
    this.layer.root.append(line);
    this.line = line;
    this.mark.hidden = true;
    if (ms !== undefined) this.timer = setTimeout(() => this.close(), ms);
  }

  private text(figures: boolean): string {
    if (!this.sharing) return "Share this video with other viewers? You can then see each other's network address.";
    const said = "Viewers share this video with each other and can see each other's network address.";
    return figures ? `${said} ${summary(this.session.stats())}` : said;
  }

  private close(): void {
    clearTimeout(this.timer);
    this.line?.remove();
    this.line = null;
    this.mark.hidden = false;
  }
}

/** One sentence on what sharing has done so far. */
function summary({ bytes, peers }: SessionStats): string {
  const others = peers.filter((peer) => peer.state === "open").length;
  const mb = (count: number): string => (count / 1e6).toFixed(count < 1e7 ? 1 : 0);
  const from = bytes.viewers + bytes.mirrors;
  return `Now: ${others} connected, ${mb(from)} MB received, ${mb(bytes.uploaded)} MB given.`;
}

function icon(): SVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(svg.namespaceURI, "path") as SVGElement;
  path.setAttribute("d", WAVES);
  svg.append(path);
  return svg;
}
