// The life of one stream's connection, as an immutable machine without IO or clock.
// state: idle, connecting, open, reconnecting, offline, closed (ended by the server), failed (given up).
// Times are milliseconds of the browser's clock.

// A link that drops sooner than this did not recover: its attempts count on, or a flapping server
// would be asked for ever.
const STABLE_MS = 10_000;
// Viewers that lost the same server must not all come back in the same instant.
const JITTER = 0.2;

export function idleLink() {
  return {
    state: "idle",
    attempt: 0,
    attempts: 5,
    retry: 3000,
    heartbeat: 15,
    retryAt: null,
    openedAt: null,
    heardAt: null,
    reason: null,
  };
}

export function evolveLink(link, signal) {
  switch (signal.kind) {
    case "asked":
      return asked(link);
    case "connected":
      return connected(link, signal);
    case "lost":
      return lost(link, signal);
    case "ended":
      return { ...link, state: "closed", retryAt: null, reason: signal.reason };
    case "refused":
      return { ...link, state: "failed", attempt: 0, retryAt: null, reason: signal.reason };
    default:
      return link;
  }
}

/** False once what is shown may be behind: the connection is lost and did not end by the server's word. */
export function isLive(link) {
  return !["reconnecting", "offline", "failed"].includes(link.state);
}

export function isWaiting(link) {
  return link.retryAt !== null;
}

function asked(link) {
  if (link.state === "offline") return { ...link, retryAt: null };
  // Asked for by hand after giving up: a new round begins.
  const attempt = link.state === "failed" ? Math.min(1, link.attempts) : link.attempt;
  return { ...link, state: attempt > 0 ? "reconnecting" : "connecting", attempt, retryAt: null };
}

function connected(link, { data, at }) {
  return {
    ...link,
    state: "open",
    attempts: atLeast(0, data.attempts, link.attempts),
    retry: atLeast(1, data.retry, link.retry),
    heartbeat: atLeast(1, data.heartbeat, link.heartbeat),
    retryAt: null,
    openedAt: at,
    heardAt: at,
    reason: null,
  };
}

/** signal: at, online, jitter 0..1, reason, retryAfter (ms the server asked for, or 0). */
function lost(link, { at, online, jitter, reason, retryAfter = 0 }) {
  const wasStable = link.openedAt !== null && at - link.openedAt >= STABLE_MS;
  const attempt = wasStable ? 0 : link.attempt;
  const retryAt = at + Math.max(link.retry * (1 + JITTER * jitter), retryAfter);
  const down = { ...link, openedAt: null, reason };
  if (!online) return { ...down, state: "offline", attempt, retryAt };
  if (attempt >= link.attempts) return { ...down, state: "failed", attempt, retryAt: null };
  return { ...down, state: "reconnecting", attempt: attempt + 1, retryAt };
}

function atLeast(least, value, otherwise) {
  return Number.isFinite(value) && value >= least ? value : otherwise;
}
