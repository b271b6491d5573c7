/** One connection to a neighbour: description, candidates, two data channels, ICE restarts, and the end of it. */

import {
  FLUSH_MS,
  ICE_RESTART_MS,
  LOW_WATER_BYTES,
  MAX_EARLY_BYTES,
  MAX_SENT_CANDIDATES,
  OFFER_TIMEOUT_MS,
} from "./limits.js";
import type { PeerKind } from "./peers.js";
import type { Outgoing } from "./signaling.js";

export type LinkState = "connecting" | "open" | "closed" | "banned";

/** What a link needs from its host: the core's checks and its ears. */
export interface LinkHost {
  /** A description without the candidates that may not be tried; undefined if it is refused. */
  checkSdp(link: Link, near: boolean, sdp: string): string | undefined;
  checkCandidate(link: Link, near: boolean, candidate: string): boolean;
  /** Whether the answer to our offer is signed by the site. */
  checkEdge(answer: string, offer: string): Promise<boolean>;
  /** Both channels are open. False if the core refuses the descriptions. */
  opened(link: Link, localSdp: string, remoteSdp: string): boolean;
  control(link: Link, bytes: Uint8Array): void;
  data(link: Link, bytes: Uint8Array): void;
  /** Few bytes lie unsent in `data`. */
  drained(link: Link, bytes: number): void;
  /** Something failed that is worth an `error` event. */
  trouble(message: string): void;
}

interface LinkTable {
  /** Whether a message would reach signaling now. */
  ready(): boolean;
  send(message: Outgoing): void;
  changed(): void;
  early(): (RTCIceCandidateInit | null)[];
}

export class Link {
  state: LinkState = "connecting";
  /** Why it ended. */
  reason = "";
  /** HELLO was right, by the core's word. */
  proven = false;
  /** No way to the other side was found. */
  unreachable = false;
  /** The other side's description is set: candidates can be added. */
  described = false;
  private control: RTCDataChannel;
  private data: RTCDataChannel;
  private heard = performance.now();
  /** Messages that came before both channels were open here. */
  private waiting: { control: boolean; bytes: Uint8Array }[] = [];
  private waitingBytes = 0;
  /** Our candidates that wait for our description to be sent first; null once it was. */
  private early: (RTCIceCandidateInit | null)[] | null = [];
  /** How many were sent since. */
  private sent = 0;
  private restart: ReturnType<typeof setTimeout> | undefined;
  private expiry: ReturnType<typeof setTimeout> | undefined;
  private silence: ReturnType<typeof setTimeout> | undefined;
  /** Descriptions and candidates are applied one after the other. */
  private queue: Promise<void> = Promise.resolve();

  /** When it was begun, as `performance.now()`. */
  readonly since = performance.now();

  constructor(
    private pc: RTCPeerConnection,
    readonly handle: number,
    readonly id: string,
    readonly conn: string,
    /** What signaling says it is; replaced by its own HELLO. */
    public kind: PeerKind,
    readonly near: boolean,
    readonly offerer: boolean,
    /** Only the site's own edge may learn of our addresses, which it does by what comes from them: none is told to anybody. */
    private edgeOnly: boolean,
    private host: LinkHost,
    private table: LinkTable,
  ) {
    this.control = pc.createDataChannel("control", { negotiated: true, id: 0 });
    this.data = pc.createDataChannel("data", { negotiated: true, id: 1, ordered: false });
    this.data.bufferedAmountLowThreshold = LOW_WATER_BYTES;
    this.data.onbufferedamountlow = () => {
      if (this.state === "open") this.host.drained(this, this.data.bufferedAmount);
    };
    for (const channel of [this.control, this.data]) {
      channel.binaryType = "arraybuffer";
      channel.onopen = () => this.onopen();
      channel.onclose = () => this.close("closed by the peer");
      channel.onmessage = (event) => this.onmessage(channel === this.control, event.data);
    }
    // Null and the empty candidate both mean the end.
    pc.onicecandidate = ({ candidate }) => this.gathered(candidate?.candidate ? candidate.toJSON() : null);
    pc.onconnectionstatechange = () => this.onconnection();
  }

  /** Bytes that lie unsent in `data`. */
  get unsent(): number {
    return this.data.bufferedAmount;
  }

  /** Sends the offer, or one that restarts ICE. */
  offer(restart = false): Promise<void> {
    return this.apply(async () => {
      this.described = false;
      this.early = [];
      const offer = await this.pc.createOffer({ iceRestart: restart });
      await this.pc.setLocalDescription(offer);
      this.describeUs("offer", this.edgeOnly ? withoutAddresses(offer.sdp) : undefined);
    });
  }

  /** The other side's offer. */
  accept(sdp: string, near: boolean): Promise<void> {
    return this.apply(async () => {
      if (!(await this.describe("offer", sdp, near))) return;
      this.early = [];
      await this.pc.setLocalDescription(await this.pc.createAnswer());
      this.describeUs("answer");
    });
  }

  /** The answer to our offer. */
  answered(sdp: string, near: boolean): Promise<void> {
    return this.apply(async () => {
      if (this.pc.signalingState !== "have-local-offer") return;
      // Before it is set: then the first packet leaves.
      if (this.edgeOnly && !(await this.host.checkEdge(sdp, this.pc.localDescription?.sdp ?? ""))) {
        return this.ban("the site has not signed its answer");
      }
      await this.describe("answer", sdp, near);
    });
  }

  candidate(candidate: RTCIceCandidateInit | null, near: boolean): Promise<void> {
    return this.apply(() => this.add(candidate, near));
  }

  sendControl(bytes: Uint8Array<ArrayBuffer>): void {
    this.post(this.control, bytes);
  }

  sendData(bytes: Uint8Array<ArrayBuffer>): void {
    this.post(this.data, bytes);
  }

  /** Closes it if it is not open by then. */
  expireAfter(ms: number): void {
    this.expiry = setTimeout(() => {
      if (this.state === "connecting") this.fail("not connected in time");
    }, ms);
  }

  closeIfSilent(ms: number): void {
    const asked = performance.now();
    clearTimeout(this.silence);
    this.silence = setTimeout(() => {
      if (this.state === "open" && this.heard <= asked) this.close("gone");
    }, ms);
  }

  ban(reason: string): void {
    this.end("banned", reason, FLUSH_MS);
  }

  close(reason: string): void {
    this.end("closed", reason, FLUSH_MS);
  }

  /** Closes at once, even what is queued: the page goes. */
  drop(reason: string): void {
    this.end("closed", reason, 0);
  }

  private fail(reason: string): void {
    // An answer came, and still no packet gets through.
    this.unreachable = this.described && this.state === "connecting";
    this.close(reason);
  }

  private end(state: "closed" | "banned", reason: string, flushMs: number): void {
    if (this.state === "closed" || this.state === "banned") return;
    this.state = state;
    this.reason = reason;
    clearTimeout(this.restart);
    clearTimeout(this.expiry);
    clearTimeout(this.silence);
    this.waiting = [];
    for (const channel of [this.control, this.data]) {
      channel.onopen = channel.onclose = channel.onmessage = channel.onbufferedamountlow = null;
    }
    this.pc.onicecandidate = this.pc.onconnectionstatechange = null;
    // Reliable channels flush what is queued (a BYE) before the transport goes; `pc.close()` alone may not.
    this.control.close();
    this.data.close();
    if (flushMs > 0) setTimeout(() => this.pc.close(), flushMs);
    else this.pc.close();
    this.table.changed();
  }

  /** Runs one step of the negotiation after those before it. What fails ends the connection. */
  private apply(step: () => Promise<void>): Promise<void> {
    this.queue = this.queue.then(step).catch((error: unknown) => this.close(String(error)));
    return this.queue;
  }

  private describeUs(type: "offer" | "answer", sdp = this.pc.localDescription?.sdp ?? ""): void {
    this.send({ type, sdp });
    const early = this.early ?? [];
    this.early = null;
    this.sent = 0;
    early.forEach((candidate) => this.gathered(candidate));
  }

  private gathered(candidate: RTCIceCandidateInit | null): void {
    if (this.edgeOnly) return;
    if (this.early) {
      this.early.push(candidate);
      return;
    }
    // The end counts too; a host with more addresses than that can do without the last.
    const last = this.sent + 1 === MAX_SENT_CANDIDATES;
    if (this.sent === MAX_SENT_CANDIDATES || (last && candidate)) return;
    this.sent += 1;
    this.send({ type: "candidate", candidate });
  }

  private async describe(type: "offer" | "answer", sdp: string, near: boolean): Promise<boolean> {
    const checked = this.host.checkSdp(this, near, sdp);
    if (checked === undefined) {
      this.send({ type: "reject", code: "bad-sdp" });
      this.close("its description was refused");
      return false;
    }
    await this.pc.setRemoteDescription({ type, sdp: checked });
    this.described = true;
    for (const candidate of this.table.early()) await this.add(candidate, near);
    return true;
  }

  private async add(candidate: RTCIceCandidateInit | null, near: boolean): Promise<void> {
    if (this.state !== "connecting" && this.state !== "open") return;
    const text = candidate?.candidate ?? "";
    if (typeof text !== "string" || (text !== "" && !this.host.checkCandidate(this, near, text))) return;
    try {
      // There is one section, so nothing but the text matters.
      await this.pc.addIceCandidate({ candidate: text, sdpMid: null, sdpMLineIndex: 0 });
    } catch {
      // One candidate that the browser does not like; others may work.
    }
  }

  private onopen(): void {
    if (this.state !== "connecting") return;
    if (this.control.readyState !== "open" || this.data.readyState !== "open") return;
    // Channels may open before the browser has told us that the answer is set: until then there is no description.
    void this.apply(async () => this.opened());
  }

  private opened(): void {
    if (this.state !== "connecting") return;
    const local = this.pc.localDescription?.sdp ?? "";
    const remote = this.pc.remoteDescription?.sdp ?? "";
    this.state = "open";
    this.heard = performance.now();
    if (!this.host.opened(this, local, remote)) return this.close("its certificate is ambiguous");
    this.table.changed();
    const waiting = this.waiting;
    this.waiting = [];
    for (const { control, bytes } of waiting) this.deliver(control, bytes);
  }

  private onmessage(control: boolean, message: unknown): void {
    // Text is no message of ours; an empty one stands for it, so that the core sees the garbage.
    const bytes = message instanceof ArrayBuffer ? new Uint8Array(message) : new Uint8Array(0);
    this.heard = performance.now();
    if (this.state === "open") return this.deliver(control, bytes);
    this.waitingBytes += bytes.length + 1;
    if (this.waitingBytes > MAX_EARLY_BYTES) return this.close("it sent too much before HELLO");
    this.waiting.push({ control, bytes });
  }

  private deliver(control: boolean, bytes: Uint8Array): void {
    if (this.state !== "open") return;
    if (control) this.host.control(this, bytes);
    else this.host.data(this, bytes);
  }

  private onconnection(): void {
    const state = this.pc.connectionState;
    if (state === "failed" || state === "closed") return this.fail(`connection ${state}`);
    clearTimeout(this.restart);
    if (state !== "disconnected" || this.state !== "open") return;
    // One side restarts, or both would.
    if (this.offerer) this.restartSoon();
    else this.restart = setTimeout(() => this.close("disconnected"), OFFER_TIMEOUT_MS);
  }

  private restartSoon(): void {
    this.restart = setTimeout(() => {
      // Without signaling nobody would hear of it.
      if (this.table.ready()) void this.offer(true);
      else this.restartSoon();
    }, ICE_RESTART_MS);
  }

  private send(
    message: { type: "offer" | "answer"; sdp: string } | { type: "reject"; code: string } | CandidateOut,
  ): void {
    if (this.state === "connecting" || this.state === "open") {
      this.table.send({ ...message, to: this.id, conn: this.conn });
    }
  }

  private post(channel: RTCDataChannel, bytes: Uint8Array<ArrayBuffer>): void {
    if (channel.readyState !== "open") return;
    try {
      channel.send(bytes);
    } catch (error) {
      // The send queue is full (16 MiB in Chromium): the core's limits are far below, so this peer does not read.
      queueMicrotask(() => this.close(String(error)));
    }
  }
}

/** A description that is sent before candidates are gathered has none; a later one may. */
function withoutAddresses(sdp = ""): string {
  return sdp.replace(/^a=candidate:.*\r\n/gm, "").replace(/^(c=IN IP)[46] .*/gm, "$14 0.0.0.0");
}

type CandidateOut = { type: "candidate"; candidate: RTCIceCandidateInit | null };
