// Keeps one EventSource alive. All decisions are link.js's; this file owns the socket and the timers.

import { isWaiting } from "./link.js";
import { askWhy, hasMovedOn } from "./probe.js";

const NAMES = [
  "connected",
  "workflow_progress",
  "analysis_progress",
  "ai_progress",
  "temporal_status",
  "notification",
  "reset",
  "disconnected",
  "error",
];
// A seventh stream of one browser to one HTTP/1.1 origin hangs without an error event.
const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Opens the stream `name` ("workflow" or "file") and keeps it open until it ends or gives up.
 * read() gives the stream's current state, dispatch(event) changes it.
 */
export function keepOpen({ name, read, dispatch }) {
  let source = null;
  let timer = 0;
  let generation = 0;

  const signal = (detail) => dispatch({ type: "link", stream: name, signal: detail });

  function stop() {
    generation += 1;
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  function connect() {
    stop();
    signal({ kind: "asked" });
    source = new EventSource(address(read()));
    let lastId = "";
    for (const event of NAMES) {
      source.addEventListener(event, (message) => {
        // EventSource's own error event carries no data; the server's always does.
        if (message.data === undefined) return onBroken();
        receive(event, message, message.lastEventId !== lastId);
        lastId = message.lastEventId;
      });
    }
    timer = setTimeout(() => lose("no answer within 10 s"), CONNECT_TIMEOUT_MS);
  }

  function receive(event, message, idIsNew) {
    const data = parseObject(message.data);
    dispatch({ type: "received", stream: name, name: event, id: message.lastEventId, idIsNew, data, at: Date.now() });
    watchSilence();
    if (data === null) return;
    if (event === "disconnected") onDisconnected(data);
    if (event === "error" && data.retryable === false) {
      stop();
      signal({ kind: "refused", reason: data.message });
    }
  }

  function onDisconnected({ reason, reconnect }) {
    if (reconnect) return lose(reason);
    stop();
    signal({ kind: "ended", reason });
  }

  async function onBroken() {
    const refused = source.readyState === EventSource.CLOSED;
    stop();
    if (!refused) return lose("connection lost");
    const mine = generation;
    const answer = await askWhy(address(read()));
    if (mine !== generation) return;
    if (answer.kind === "lost") lose(answer.reason, answer.retryAfter);
    else signal(answer);
  }

  function lose(reason, retryAfter = 0) {
    stop();
    signal({ kind: "lost", reason, retryAfter, at: Date.now(), online: navigator.onLine, jitter: Math.random() });
    const { link } = read();
    if (isWaiting(link)) timer = setTimeout(connect, link.retryAt - Date.now());
  }

  // Heartbeats are comments, which EventSource hides. After two silent ones the store is asked:
  // has it moved on without us, this connection is dead and nobody told us.
  function watchSilence() {
    clearTimeout(timer);
    timer = setTimeout(checkSilence, 2000 * read().link.heartbeat);
  }

  async function checkSilence() {
    const mine = generation;
    const moved = await hasMovedOn(name, read());
    if (mine !== generation) return;
    if (moved) lose("nothing heard for two heartbeats");
    else watchSilence();
  }

  connect();
  return {
    stop,
    /** Tries at once, if it waits or has given up. */
    retryNow() {
      const { link } = read();
      if (isWaiting(link) || link.state === "failed") connect();
    },
    /** Tries at once only if it waits: a new network is no reason to undo a refusal. */
    wake() {
      if (isWaiting(read().link)) connect();
    },
  };
}

function address({ url, cursor }) {
  const target = new URL(url, location.href);
  // A new EventSource cannot send Last-Event-ID.
  if (cursor !== null) target.searchParams.set("cursor", cursor);
  return target.href;
}

function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}
