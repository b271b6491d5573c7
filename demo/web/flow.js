// The picture beside the film: the server, you and the other viewers, and every piece of video on its way as a dot.

import { PIECE, SERVER } from "./watchers.js";

/** @typedef {import("./watchers.js").Watcher} Watcher */
/** @typedef {import("./watchers.js").Transfer} Transfer */
/** @typedef {{ x: number, y: number }} Point */
/** @typedef {Point & { r: number, label: string, color: string, note: string, share: number | null }} Place */
/** @typedef {{ from: string, to: string, pending: number, next: number, rate: number }} Lane */
/** @typedef {{ lane: Lane, start: number }} Dot */

/** How long a dot travels, in ms. */
const TRAVEL_MS = 1700;

/** Pieces come in bursts, a segment at a time; dots are spread over this time, in ms, to be seen. */
const SPREAD_MS = 3600;

/** Time in which places glide to where they belong, in ms. */
const GLIDE_MS = 350;

/** Custom properties of the style sheet that are drawn with. */
const COLORS = ["--ink", "--muted", "--card", "--server", "--you", "--stranger", "--tide", "--line"].concat(
  [1, 2, 3, 4, 5, 6].map((number) => `--viewer-${number}`),
);

/** Draws on a canvas for as long as the page is shown. */
export class Flow {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./watchers.js").Watchers} watchers
   */
  constructor(canvas, watchers) {
    this.canvas = canvas;
    this.watchers = watchers;
    /** Share of this page's bytes that came from viewers, 0 to 1: how high the tide stands. */
    this.level = 0;
    this.shownLevel = 0;
    /** @type {Map<string, Lane>} */
    this.lanes = new Map();
    /** @type {Dot[]} */
    this.dots = [];
    /** @type {Map<string, Place>} */
    this.places = new Map();
    /** Where bytes just arrived. @type {Map<string, number>} */
    this.ripples = new Map();
    /** @type {Record<string, string>} */
    this.colors = {};
    this.width = 0;
    this.height = 0;
    this.last = 0;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", () => this.readColors());
    this.readColors();
    new ResizeObserver(() => this.resize()).observe(canvas);
    const frame = (/** @type {number} */ now) => {
      this.draw(now);
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  readColors() {
    const style = getComputedStyle(document.documentElement);
    for (const name of COLORS) this.colors[name] = style.getPropertyValue(name).trim();
  }

  resize() {
    const { width, height } = this.canvas.getBoundingClientRect();
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    this.width = width;
    this.height = height;
  }

  /** Bytes moved. @param {Transfer[]} transfers */
  moved(transfers) {
    for (const { from, to, bytes } of transfers) {
      const key = `${from} ${to}`;
      const lane = this.lanes.get(key) ?? { from, to, pending: 0, next: 0, rate: 0 };
      lane.pending += bytes / PIECE;
      lane.rate += bytes;
      this.lanes.set(key, lane);
    }
    for (const lane of this.lanes.values()) lane.rate *= 0.85;
    this.describe();
  }

  /** For those who do not see it. */
  describe() {
    const me = this.watchers.all[0];
    const others = this.watchers.all.length - 1 + this.watchers.strangers.length;
    const text =
      `The server, you and ${others} other viewers. ` +
      `${Math.round(this.level * 100)} % of your video came from viewers, over ${me?.open.size ?? 0} connections.`;
    this.canvas.setAttribute("aria-label", text);
  }

  /** Where everybody belongs: the server on the left, you in the middle, the others around you. */
  layout() {
    const { width: w, height: h } = this;
    const unit = Math.min(w / 1.6, h);
    /** @type {Map<string, Place>} */
    const places = new Map();
    const sent = this.watchers.all.reduce((sum, watcher) => sum + (watcher.from.get(SERVER) ?? 0), 0);
    places.set(SERVER, {
      x: Math.max(unit * 0.16, w * 0.12),
      y: h * 0.48,
      r: unit * 0.095,
      label: "Server",
      note: `${(sent / 1e6).toFixed(1)} MB`,
      color: "--server",
      share: null,
    });
    const [me, ...rest] = this.watchers.all;
    const centre = { x: w * 0.52, y: h * 0.48 };
    if (me) places.set(me.name, { ...centre, r: unit * 0.135, ...this.face(me) });
    const strangers = this.watchers.strangers.map((id) => ({
      name: id,
      face: { label: "Somebody else", color: "--stranger", note: "", share: null },
    }));
    const others = [...rest.map((watcher) => ({ name: watcher.name, face: this.face(watcher) })), ...strangers];
    // An arc that leaves the server's side free.
    const wide = Math.min(Math.PI * 0.72, 0.5 * others.length);
    others.forEach(({ name, face }, number) => {
      const angle = others.length === 1 ? 0 : -wide + (2 * wide * number) / (others.length - 1);
      places.set(name, {
        x: centre.x + Math.cos(angle) * Math.min(w * 0.35, unit * 0.75),
        y: centre.y + Math.sin(angle) * h * 0.35,
        r: unit * 0.088,
        ...face,
      });
    });
    return places;
  }

  /** @param {Watcher} watcher */
  face(watcher) {
    const share = watcher.total > 0 ? watcher.shared / watcher.total : null;
    const note = share === null ? "…" : `${Math.round(share * 100)} %`;
    return { label: watcher.label, color: watcher.color, note, share };
  }

  /** @param {number} now */
  draw(now) {
    const context = this.canvas.getContext("2d");
    if (!context || this.width === 0) return;
    const passed = Math.min(100, now - this.last);
    this.last = now;
    const scale = this.canvas.width / this.width;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, this.width, this.height);

    this.glide(passed);
    this.drawTide(context, now, passed);
    this.drawLanes(context);
    if (!this.still.matches) {
      this.release(now);
      this.drawDots(context, now);
    }
    for (const [name, place] of this.places) this.drawPlace(context, name, place, now);
  }

  /** Moves places towards where they belong. @param {number} passed */
  glide(passed) {
    const wanted = this.layout();
    const step = this.still.matches ? 1 : 1 - Math.exp(-passed / GLIDE_MS);
    for (const [name, place] of wanted) {
      const old = this.places.get(name);
      if (old) {
        place.x = old.x + (place.x - old.x) * step;
        place.y = old.y + (place.y - old.y) * step;
        place.r = old.r + (place.r - old.r) * step;
      } else if (!this.still.matches) place.r = 0;
    }
    this.places = wanted;
    for (const [key, lane] of this.lanes) {
      // Who left takes the lanes along; senders that are not identified yet may still turn up.
      if (!wanted.has(lane.to)) this.lanes.delete(key);
    }
  }

  /** @param {CanvasRenderingContext2D} context @param {number} now @param {number} passed */
  drawTide(context, now, passed) {
    this.shownLevel += (this.level - this.shownLevel) * (1 - Math.exp(-passed / 900));
    const { width: w, height: h } = this;
    const time = this.still.matches ? 0 : now / 1000;
    const top = h * (1 - 0.04 - this.shownLevel * 0.86);
    context.fillStyle = this.color("--tide");
    for (const [depth, speed, size] of /** @type {const} */ ([
      [0, 0.35, 7],
      [12, -0.25, 9],
    ])) {
      context.globalAlpha = 0.1;
      context.beginPath();
      context.moveTo(0, h);
      for (let x = 0; x <= w + 8; x += 8) {
        context.lineTo(
          x,
          top + depth + Math.sin(x / 70 + time * speed * 3) * size * 0.6 + Math.sin(x / 31 - time * speed) * 2,
        );
      }
      context.lineTo(w, h);
      context.fill();
    }
    context.globalAlpha = 1;
  }

  /** Faint paths where something moved lately; thicker for more, which is all there is without motion. */
  drawLanes(/** @type {CanvasRenderingContext2D} */ context) {
    context.lineCap = "round";
    for (const lane of this.lanes.values()) {
      const path = this.path(lane);
      if (!path || lane.rate < 1000) continue;
      const strength = Math.min(1, lane.rate / 1_500_000);
      context.strokeStyle = this.color(this.colorOf(lane.from));
      context.globalAlpha = 0.12 + 0.3 * strength;
      context.lineWidth = this.still.matches ? 1 + 7 * strength : 1.5;
      context.beginPath();
      context.moveTo(path.from.x, path.from.y);
      context.quadraticCurveTo(path.bend.x, path.bend.y, path.to.x, path.to.y);
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  /** Lets waiting dots go, evenly. @param {number} now */
  release(now) {
    for (const lane of this.lanes.values()) {
      if (lane.pending < 1 || now < lane.next || !this.path(lane)) continue;
      lane.pending -= 1;
      lane.next = now + Math.min(1000, SPREAD_MS / (lane.pending + 1)) * (0.75 + Math.random() * 0.5);
      this.dots.push({ lane, start: now });
    }
  }

  /** @param {CanvasRenderingContext2D} context @param {number} now */
  drawDots(context, now) {
    this.dots = this.dots.filter(({ lane, start }) => {
      const path = this.path(lane);
      const t = (now - start) / TRAVEL_MS;
      if (t >= 1) this.ripples.set(lane.to, now);
      if (!path || t >= 1) return false;
      context.fillStyle = this.color(this.colorOf(lane.from));
      // A short wake of ever fainter dots.
      for (let step = 0; step < 5; step += 1) {
        const at = ease(Math.max(0, t - step * 0.014));
        const point = along(path, at);
        context.globalAlpha = (1 - step / 5) * (step === 0 ? 1 : 0.35);
        context.beginPath();
        context.arc(point.x, point.y, 3.6 - step * 0.5, 0, 2 * Math.PI);
        context.fill();
      }
      return true;
    });
    context.globalAlpha = 1;
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {string} name
   * @param {Place} place
   * @param {number} now
   */
  drawPlace(context, name, place, now) {
    const { x, y, r } = place;
    const color = this.color(place.color);
    const ripple = now - (this.ripples.get(name) ?? -Infinity);
    if (ripple < 700 && !this.still.matches) {
      context.strokeStyle = color;
      context.globalAlpha = 0.35 * (1 - ripple / 700);
      context.lineWidth = 1.5;
      circle(context, x, y, r + 3 + (ripple / 700) * r * 0.5);
      context.stroke();
      context.globalAlpha = 1;
    }
    context.fillStyle = name === SERVER ? color : this.color("--card");
    circle(context, x, y, r);
    context.fill();
    if (name === SERVER) drawServer(context, place, this.color("--card"));
    else {
      // The ring: how much of it is not the server's colour is how much viewers brought.
      const from = -Math.PI / 2;
      const turn = from + 2 * Math.PI * (place.share ?? 0);
      context.lineWidth = Math.max(3, r * 0.16);
      ring(
        context,
        place,
        turn,
        from + 2 * Math.PI,
        place.share === null ? this.color("--line") : this.color("--server"),
      );
      if (place.share) ring(context, place, from, turn, this.color("--tide"));
      context.fillStyle = color;
      circle(context, x, y, r * 0.62);
      context.fill();
      context.fillStyle = this.color("--card");
      text(context, place.note, x, y, Math.max(10, r * 0.36), 700);
    }
    context.fillStyle = this.color("--ink");
    const size = name === "you" ? 15 : 13;
    text(context, place.label, x, y + r + size * 1.15, size, 600);
    if (name === SERVER) {
      context.fillStyle = this.color("--muted");
      text(context, `sent ${place.note}`, x, y + r + size * 2.35, 12, 400);
    }
  }

  /** From rim to rim, bent to the left of its direction so that both ways are seen. @param {Lane} lane */
  path(lane) {
    const from = this.places.get(lane.from) ?? this.placeOfPeer(lane.from);
    const to = this.places.get(lane.to);
    if (!from || !to) return null;
    const dx = to.x - from.x;
    const dy = to.y - from.y;
    // The server's paths keep clear of you in the middle; the others keep clear of their own way back.
    const away = from.y + 1 < to.y ? -0.42 : 0.42;
    const curve = lane.from === SERVER ? (lane.to === "you" ? 0 : away) : 0.16;
    const bend = { x: (from.x + to.x) / 2 + dy * curve, y: (from.y + to.y) / 2 - dx * curve };
    return { from: rim(from, bend), bend, to: rim(to, bend) };
  }

  /** Bytes were counted under a peer id before we knew whose it is. @param {string} peer */
  placeOfPeer(peer) {
    const watcher = this.watchers.byPeer(peer);
    return watcher && this.places.get(watcher.name);
  }

  /** @param {string} name */
  colorOf(name) {
    const place = this.places.get(name) ?? this.placeOfPeer(name);
    return place?.color ?? "--stranger";
  }

  /** @param {string} name */
  color(name) {
    return this.colors[name] || "gray";
  }
}

/** Where a path towards a point leaves a circle. @param {Place} place @param {Point} towards */
function rim({ x, y, r }, towards) {
  const length = Math.hypot(towards.x - x, towards.y - y) || 1;
  return { x: x + ((towards.x - x) * r) / length, y: y + ((towards.y - y) * r) / length };
}

/** Slow, fast, slow. @param {number} t */
function ease(t) {
  return t * t * (3 - 2 * t);
}

/** @param {{ from: Point, bend: Point, to: Point }} path @param {number} t */
function along({ from, bend, to }, t) {
  const u = 1 - t;
  return {
    x: u * u * from.x + 2 * u * t * bend.x + t * t * to.x,
    y: u * u * from.y + 2 * u * t * bend.y + t * t * to.y,
  };
}

/** @param {CanvasRenderingContext2D} context @param {number} x @param {number} y @param {number} r */
function circle(context, x, y, r) {
  context.beginPath();
  context.arc(x, y, Math.max(0, r), 0, 2 * Math.PI);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Place} place
 * @param {number} from
 * @param {number} to
 * @param {string} color
 */
function ring(context, { x, y, r }, from, to, color) {
  context.strokeStyle = color;
  context.beginPath();
  context.arc(x, y, Math.max(0, r - context.lineWidth / 2), from, to);
  context.stroke();
}

/** Three drawers with a lamp each. @param {CanvasRenderingContext2D} context @param {Place} place @param {string} color */
function drawServer(context, { x, y, r }, color) {
  context.fillStyle = color;
  for (const row of [-1, 0, 1]) {
    const top = y + row * r * 0.38 - r * 0.14;
    context.beginPath();
    context.roundRect(x - r * 0.5, top, r, r * 0.28, r * 0.08);
    context.fill();
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {string} words
 * @param {number} x
 * @param {number} y
 * @param {number} size
 * @param {number} weight
 */
function text(context, words, x, y, size, weight) {
  context.font = `${weight} ${size}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(words, x, y);
}
