// What runs inside each page before anything else: it looks on and writes down, and changes nothing that a page could
// notice. The page finds it at `window.__recorder`.

/** Runs in the page; must not refer to anything outside of itself. */
export function recorder() {
  if (window.top !== window) return;
  /** @type {any} */
  const rec = {
    /** Buffers handed to the player's loader. */
    delivered: [],
    /** Deliveries whose hash is still being computed. */
    hashing: 0,
    /** Pauses of playback that nobody asked for, after it had begun. */
    stalls: [],
    /** Events of sessions. */
    events: [],
    /** Events of media elements. */
    media: [],
    /** Weak: the recorder must not keep alive what a test expects to be freed. */
    connections: [],
    levels: [],
    playerErrors: [],
  };
  window.__recorder = rec;
  const now = () => Math.round(performance.now());

  // --- WebRTC connections, to see them close.
  const Native = window.RTCPeerConnection;
  if (Native) {
    window.RTCPeerConnection = class RTCPeerConnection extends Native {
      constructor(...args) {
        super(...args);
        rec.connections.push(new WeakRef(this));
      }
    };
  }
  rec.openConnections = () =>
    rec.connections.map((weak) => weak.deref()).filter((pc) => pc && pc.connectionState !== "closed").length;

  // --- Playback. Media events do not bubble but can be captured.
  const states = new WeakMap();
  const stateOf = (video) => {
    if (!states.has(video)) states.set(video, { settled: false, stall: null, last: 0, since: 0 });
    return states.get(video);
  };
  const closeStall = (state) => {
    if (!state.stall) return;
    state.stall.ms = now() - state.stall.from;
    state.stall = null;
  };
  const on = {
    playing(video, state) {
      state.settled = true;
      closeStall(state);
    },
    timeupdate(video, state) {
      if (state.stall && video.currentTime > state.stall.at + 0.05 && video.readyState >= 3) closeStall(state);
    },
    waiting(video, state) {
      // The wait after a start or a seek is no stall, nor is the end of the film.
      if (!state.settled || state.stall || video.seeking || video.paused || video.ended) return;
      if (atEnd(video)) return;
      state.stall = { at: video.currentTime, from: now(), ms: null, buffered: bufferedEnd(video), video: video.id };
      rec.stalls.push(state.stall);
    },
    seeking(video, state) {
      state.settled = false;
      closeStall(state);
    },
    pause: (video, state) => closeStall(state),
    ended: (video, state) => closeStall(state),
    emptied(video, state) {
      state.settled = false;
      closeStall(state);
    },
  };
  // What looks like the end of a live stream is its edge, and waiting there is a stall.
  function atEnd(video) {
    const players = [...(window.__players ?? []), ...[...(window.Marea?.sessions ?? [])].map(({ player }) => player)];
    const live = players.some((player) => player?.media === video && player.latestLevelDetails?.live);
    return !live && video.duration - video.currentTime < 0.3;
  }
  function bufferedEnd(video) {
    const { buffered, currentTime } = video;
    for (let i = 0; i < buffered.length; i += 1) {
      if (buffered.start(i) <= currentTime + 0.1 && currentTime <= buffered.end(i)) return buffered.end(i);
    }
    return currentTime;
  }
  rec.bufferedEnd = bufferedEnd;
  for (const type of [
    "playing",
    "waiting",
    "seeking",
    "seeked",
    "pause",
    "play",
    "ended",
    "emptied",
    "error",
    "timeupdate",
  ]) {
    document.addEventListener(
      type,
      ({ target: video }) => {
        if (!(video instanceof HTMLMediaElement)) return;
        if (type !== "timeupdate" && rec.media.length < 2_000) {
          rec.media.push({ type, at: now(), time: Math.round(video.currentTime * 1000) / 1000, video: video.id });
        }
        on[type]?.(video, stateOf(video));
      },
      true,
    );
  }
  // A frozen picture without `waiting` (a decoder out of data that says nothing) counts too.
  setInterval(() => {
    for (const video of document.querySelectorAll("video")) {
      const state = stateOf(video);
      if (video.currentTime !== state.last || video.paused || video.ended || video.seeking || !state.settled) {
        state.last = video.currentTime;
        state.since = now();
      } else if (now() - state.since > 1_500 && !state.stall && !atEnd(video)) {
        state.stall = {
          at: video.currentTime,
          from: state.since,
          ms: null,
          buffered: bufferedEnd(video),
          video: video.id,
        };
        rec.stalls.push(state.stall);
      }
    }
  }, 100);

  // --- Sessions and players, as soon as they are there.
  const hookedSessions = new WeakSet();
  const hookedPlayers = new WeakSet();
  function hookPlayer(player) {
    if (!player?.config || hookedPlayers.has(player)) return;
    hookedPlayers.add(player);
    // hls.js makes one loader per request; wrapped here, where its result reaches the player, and nothing else is touched.
    const Base = player.config.fLoader ?? player.config.loader;
    player.config.fLoader = class extends Base {
      load(context, config, callbacks) {
        const onSuccess = (response, stats, ctx, details) => {
          // Marea asks a page's own loader for piece lists, too: those are nothing that the player was given.
          if (!new URL(context.url, location.href).pathname.endsWith(".pieces")) deliver(context, response.data);
          return callbacks.onSuccess(response, stats, ctx, details);
        };
        super.load(context, config, { ...callbacks, onSuccess });
      }
    };
    player.on("hlsLevelSwitched", (_, { level }) => rec.levels.push({ level, at: now() }));
    player.on("hlsError", (_, { details, fatal, frag, response, error }) => {
      rec.playerErrors.push({
        details,
        fatal,
        sn: frag?.sn,
        code: response?.code,
        error: error?.message,
        // What nobody expects is to be found where it came from.
        stack: details === "internalException" ? error?.stack : undefined,
        at: now(),
      });
    });
  }
  function deliver(context, data) {
    /** @type {any} */
    const entry = {
      url: context.url,
      range: context.rangeEnd ? { start: context.rangeStart ?? 0, end: context.rangeEnd } : null,
      sn: context.frag?.sn ?? null,
      type: context.frag?.type ?? null,
      bytes: data?.byteLength ?? -1,
      sha256: null,
      at: now(),
    };
    rec.delivered.push(entry);
    if (!(data instanceof ArrayBuffer)) return;
    if (!window.crypto?.subtle) {
      let text = "";
      const bytes = new Uint8Array(data);
      for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
      entry.base64 = btoa(text);
      return;
    }
    rec.hashing += 1;
    // WebCrypto copies its input before it returns, so the player may detach the buffer afterwards.
    crypto.subtle.digest("SHA-256", data).then((hash) => {
      entry.sha256 = Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
      rec.hashing -= 1;
    });
  }
  function hookSession(session) {
    if (hookedSessions.has(session)) return;
    hookedSessions.add(session);
    for (const type of ["state", "peer", "segment", "integrity", "error"]) {
      session.addEventListener(type, ({ detail }) => {
        if (rec.events.length < 20_000) rec.events.push({ type, at: now(), detail: structuredClone(detail ?? null) });
      });
    }
  }
  // Fast enough to be there before the first segment: a playlist has to be fetched in between.
  const watch = setInterval(() => {
    for (const session of window.Marea?.sessions ?? []) {
      hookSession(session);
      if (session.player) hookPlayer(session.player);
    }
    if (window.__players) window.__players.forEach(hookPlayer);
  }, 3);
  rec.stop = () => clearInterval(watch);

  rec.session = (index = 0) => [...(window.Marea?.sessions ?? [])][index] ?? null;
  rec.snapshot = () => ({
    now: now(),
    marea: window.Marea?.version ?? null,
    sessions: [...(window.Marea?.sessions ?? [])].map((session) => ({
      state: session.state,
      reasons: [...(session.stats().reasons ?? [])],
      stats: session.stats(),
    })),
    videos: [...document.querySelectorAll("video")].map((video) => ({
      id: video.id,
      time: video.currentTime,
      duration: video.duration,
      buffered: bufferedEnd(video),
      paused: video.paused,
      ended: video.ended,
      readyState: video.readyState,
      error: video.error?.message ?? null,
    })),
    connections: rec.openConnections(),
    connectionsMade: rec.connections.length,
    delivered: rec.delivered.map(({ base64, ...entry }) => entry),
    stalls: rec.stalls.map((stall) => ({ ...stall, ms: stall.ms ?? now() - stall.from })),
    events: rec.events,
    media: rec.media,
    levels: rec.levels,
    playerErrors: rec.playerErrors,
    visibility: document.visibilityState,
  });
}
