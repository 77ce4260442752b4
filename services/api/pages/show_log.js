// The event log's rows, and what its tools do.

import { byId, element, setText, show } from "./dom.js";
import { clock, plural } from "./format.js";
import { LOG_LIMIT, newSincePause, shownEntries, toNdjson } from "./log.js";

const TYPES = [
  "connected",
  "workflow_progress",
  "analysis_progress",
  "ai_progress",
  "temporal_status",
  "error",
  "reset",
  "disconnected",
];
const rows = new Map();

export function prepareLog(read, dispatch) {
  const change = (name, filter) => dispatch({ type: "log", change: name, filter });
  byId("log-type").append(...TYPES.map((type) => new Option(type, type)));
  byId("log-type").addEventListener("change", ({ target }) => change("narrow", { type: target.value }));
  byId("log-text").addEventListener("input", ({ target }) => change("narrow", { text: target.value }));
  byId("log-pause").addEventListener("click", () => change(read().pausedAt === null ? "pause" : "resume"));
  byId("log-clear").addEventListener("click", () => change("clear"));
  byId("log-download").addEventListener("click", () => download(shownEntries(read())));
}

export function showLog(log) {
  const entries = shownEntries(log);
  const box = byId("log-rows");
  const follows = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
  if (patchRows(box, entries) && follows) box.scrollTop = box.scrollHeight;
  show(byId("log-empty"), entries.length === 0);
  setText(byId("log-empty"), log.entries.length === 0 ? "No events yet." : "No event matches the filter.");
  setText(byId("log-count"), counted(log, entries.length));
  const paused = log.pausedAt !== null;
  byId("log-pause").setAttribute("aria-pressed", String(paused));
  setText(byId("log-pause"), paused ? "Resume" : "Pause");
  byId("log-download").disabled = entries.length === 0;
}

function counted(log, count) {
  const all = log.entries.length;
  const parts = [count === all ? plural(all, "event") : `${count} of ${plural(all, "event")}`];
  if (all === LOG_LIMIT) parts.push("older ones let go");
  if (log.pausedAt !== null) parts.push(`Paused · ${newSincePause(log)} new`);
  return parts.join(" · ");
}

// Entries only ever go at the front and come at the end, unless the filter changed.
function patchRows(box, entries) {
  const wanted = new Set(entries.map(({ n }) => n));
  for (const [n, row] of rows) {
    if (!wanted.has(n)) {
      row.remove();
      rows.delete(n);
    }
  }
  const last = Number(box.lastElementChild?.dataset.n ?? 0);
  const missing = entries.filter(({ n }) => !rows.has(n));
  for (const entry of missing) rows.set(entry.n, makeRow(entry));
  if (missing.some(({ n }) => n < last)) box.replaceChildren(...entries.map(({ n }) => rows.get(n)));
  else box.append(...missing.map(({ n }) => rows.get(n)));
  return missing.length > 0;
}

function makeRow({ n, at, pos, stream, name, summary, data }) {
  const row = element("details", "log-row");
  row.dataset.testid = "log-row";
  row.dataset.n = n;
  row.dataset.type = name;
  const line = element("summary");
  const time = element("time", "number", clock(at));
  time.dateTime = new Date(at).toISOString();
  const position = element("span", "pos number", pos === null ? "–" : String(pos));
  position.title = "position";
  const type = element("span", "type", name);
  if (stream === "file" && name !== "analysis_progress") type.append(element("span", "of", " file"));
  line.append(time, position, type, element("span", "summary", summary));
  row.append(line);
  // 500 JSON texts that nobody opened would cost more than the page itself.
  row.addEventListener("toggle", () => {
    if (row.children.length === 1) row.append(element("pre", "", JSON.stringify(data, null, 2)));
  });
  return row;
}

function download(entries) {
  const address = URL.createObjectURL(new Blob([toNdjson(entries)], { type: "application/x-ndjson" }));
  const link = element("a");
  link.href = address;
  link.download = "events.ndjson";
  link.click();
  // At once, the browser may not have begun to read it.
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
