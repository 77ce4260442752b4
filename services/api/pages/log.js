// The event log: what arrived, newest last, with its filter and pause. Pure.

export const LOG_LIMIT = 500;

export function emptyLog() {
  return { entries: [], next: 1, type: "", text: "", pausedAt: null };
}

/** entry: {at (ms), stream, cursor|null, pos|null, name, summary, data}. */
export function keep(log, entry) {
  const entries = [...log.entries, { ...entry, n: log.next }].slice(-LOG_LIMIT);
  return { ...log, entries, next: log.next + 1 };
}

export function narrow(log, { type, text }) {
  return { ...log, type: type ?? log.type, text: text ?? log.text };
}

export function pause(log) {
  return { ...log, pausedAt: log.next };
}

export function resume(log) {
  return { ...log, pausedAt: null };
}

/** Forgets the entries; their numbers go on, so a row never changes its meaning. */
export function clear(log) {
  return { ...log, entries: [], pausedAt: log.pausedAt === null ? null : log.next };
}

export function shownEntries(log) {
  const wanted = log.text.trim().toLowerCase();
  return log.entries.filter(
    (entry) =>
      (log.pausedAt === null || entry.n < log.pausedAt) &&
      (log.type === "" || entry.name === log.type) &&
      (wanted === "" || searchable(entry).includes(wanted)),
  );
}

export function newSincePause(log) {
  return log.pausedAt === null ? 0 : log.next - log.pausedAt;
}

/** One JSON object a line, in the order of arrival. */
export function toNdjson(entries) {
  return entries
    .map(({ at, stream, cursor, name, data }) =>
      JSON.stringify({ received: new Date(at).toISOString(), stream, cursor, event: name, data }),
    )
    .map((line) => `${line}\n`)
    .join("");
}

export function summarize(name, data) {
  if (data === null) return "Unreadable: the data is not a JSON object";
  switch (name) {
    case "connected":
      if (data.resumed) return `resumed after ${data.cursor}`;
      return data.view ? `${data.view.status} at ${data.cursor}` : `nothing published yet, at ${data.cursor}`;
    case "workflow_progress":
    case "analysis_progress":
      return joined(`${data.progress} %`, data.step, data.error ?? data.message, data.late && "late");
    case "ai_progress":
      return joined(data.step, data.delta ?? data.message);
    case "temporal_status":
      return joined(data.status, data.message);
    case "error":
      return joined(data.code, data.message);
    case "disconnected":
      return joined(data.reason, data.reconnect ? "will reconnect" : "final");
    default:
      return joined(data.reason, data.title, data.message);
  }
}

function joined(...parts) {
  return parts.filter((part) => part !== undefined && part !== null && part !== false && part !== "").join(" · ");
}

function searchable({ name, summary, data }) {
  return `${name} ${summary} ${JSON.stringify(data)}`.toLowerCase();
}
