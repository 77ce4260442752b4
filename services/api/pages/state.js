// The whole page as one value: `evolve(state, event)` is pure, everything else reads it.

import { isNews, parseCursor } from "./cursor.js";
import { fold } from "./fold.js";
import { evolveLink, idleLink } from "./link.js";
import { clear, emptyLog, keep, narrow, pause, resume, summarize } from "./log.js";

const RESETS = {
  epoch: "its history was started anew",
  trimmed: "older events are no longer kept",
  ahead: "it was ahead of what the server holds",
  slow: "this browser read too slowly",
  lost: "events were lost",
};

export function initial() {
  return {
    streams: { workflow: null, file: null },
    upload: { phase: "idle" },
    health: null,
    log: emptyLog(),
  };
}

/**
 * event.type, one of:
 *   watched {workflow: {id, url}|null, file: {id, url}|null}
 *   link {stream, signal}                     what happened to a connection, see link.js
 *   received {stream, name, id, idIsNew, data, at}
 *   upload {upload}                           what the upload is doing, see upload.js
 *   health {health}
 *   log {change: narrow|pause|resume|clear, filter}
 */
export function evolve(state, event) {
  switch (event.type) {
    case "watched":
      return {
        ...state,
        streams: { workflow: newStream(event.workflow), file: newStream(event.file) },
        log: clear(resume(state.log)),
      };
    case "link":
      return onStream(state, event.stream, (stream) => ({ ...stream, link: evolveLink(stream.link, event.signal) }));
    case "received":
      return received(state, event);
    case "upload":
      return { ...state, upload: event.upload };
    case "health":
      return { ...state, health: event.health };
    case "log":
      return { ...state, log: changeLog(state.log, event) };
    default:
      return state;
  }
}

function newStream(target) {
  if (target === null) return null;
  return {
    id: target.id,
    url: target.url,
    link: idleLink(),
    known: false,
    view: null,
    cursor: null,
    temporal: null,
    notice: null,
    skew: 0,
  };
}

function onStream(state, name, change) {
  const stream = state.streams[name];
  if (stream === null) return state;
  return { ...state, streams: { ...state.streams, [name]: change(stream) } };
}

function received(state, event) {
  if (state.streams[event.stream] === null) return state;
  const { name, data, at, stream } = event;
  const cursor = cursorOf(event);
  const entry = { at, stream, cursor, pos: parseCursor(cursor)?.pos ?? null, name, summary: summarize(name, data), data };
  const heard = onStream(state, stream, (was) => {
    const now = { ...was, link: { ...was.link, heardAt: at } };
    return data === null ? now : absorb(now, event, cursor);
  });
  return { ...heard, log: keep(state.log, entry) };
}

// EventSource repeats the last id for events that have none: the joining viewer's copy of the latest
// progress, and what is no part of the feed.
function cursorOf({ id, idIsNew, data }) {
  if (data !== null && typeof data.cursor === "string") return data.cursor;
  return id !== "" && idIsNew ? id : null;
}

function absorb(stream, { name, data, at }, cursor) {
  switch (name) {
    case "connected":
      return absorbConnected(stream, data, at);
    case "reset":
      return { ...adopt(stream, data), notice: { code: "reset", message: resetText(data) } };
    case "error":
      return { ...stream, notice: data.code === "recovered" ? null : { code: data.code, message: data.message } };
    case "temporal_status":
      return absorbNews({ ...stream, temporal: data.status }, name, data, cursor);
    default:
      return absorbNews(stream, name, data, cursor);
  }
}

function resetText({ reason }) {
  return `The stream went on from the current state: ${RESETS[reason] ?? reason}.`;
}

function absorbConnected(stream, data, at) {
  const link = evolveLink(stream.link, { kind: "connected", data, at });
  const sent = Date.parse(data.timestamp);
  const opened = { ...stream, link, notice: null, skew: Number.isNaN(sent) ? 0 : at - sent };
  // A resumed stream brings no view: what was missed follows, and is folded into the one we have.
  return data.resumed === true ? { ...opened, known: true } : adopt(opened, data);
}

function adopt(stream, data) {
  return { ...stream, known: true, view: data.view ?? null, cursor: data.cursor };
}

function absorbNews(stream, name, data, cursor) {
  if (!isNews(cursor, stream.cursor)) return stream;
  return { ...stream, known: true, view: fold(stream.view, name, data), cursor };
}

function changeLog(log, { change, filter }) {
  switch (change) {
    case "narrow":
      return narrow(log, filter);
    case "pause":
      return pause(log);
    case "resume":
      return resume(log);
    case "clear":
      return clear(log);
    default:
      return log;
  }
}
