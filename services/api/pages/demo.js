// Puts the page together: one state, one place that changes it, one that shows it.

import { byId, setText } from "./dom.js";
import { watchHealth } from "./health.js";
import { announcement, showHealth, showLinks } from "./show_link.js";
import { prepareLog, showLog } from "./show_log.js";
import { prepareUpload, showUpload } from "./show_upload.js";
import { showFile, showWorkflow } from "./show_workflow.js";
import { evolve, initial } from "./state.js";
import { keepOpen } from "./stream.js";
import { sampleFile, sendFile } from "./upload.js";

// A burst of events is one repaint.
const REPAINT_MS = 50;
// Countdowns and durations move on although no event came.
const TICK_MS = 500;

let state = initial();
let repaint = 0;
let connections = [];
let cancelUpload = () => {};

function dispatch(event) {
  state = evolve(state, event);
  if (repaint === 0) repaint = setTimeout(paint, REPAINT_MS);
}

function paint() {
  clearTimeout(repaint);
  repaint = 0;
  const now = Date.now();
  showLinks(state.streams, now);
  showHealth(state.health);
  showUpload(state);
  showWorkflow(state, now);
  showFile(state);
  showLog(state.log);
  setText(byId("announcer"), announcement(state));
}

function watch(workflow, file) {
  for (const connection of connections) connection.stop();
  dispatch({ type: "watched", workflow, file });
  connections = ["workflow", "file"]
    .filter((name) => state.streams[name] !== null)
    .map((name) => keepOpen({ name, read: () => state.streams[name], dispatch }));
  remember(workflow, file);
}

// A reload, or a link sent to someone else, shows the same workflow.
function remember(workflow, file) {
  const address = new URL(location.pathname, location.href);
  address.searchParams.set("workflow", workflow.id);
  if (file !== null) address.searchParams.set("file", file.id);
  history.replaceState(null, "", address);
}

function target(kind, id) {
  return id ? { id, url: `/stream/${kind}/${encodeURIComponent(id)}` } : null;
}

function upload(file) {
  cancelUpload();
  cancelUpload = sendFile(file, {
    userId: byId("user").value.trim(),
    onChange: (change) => dispatch({ type: "upload", upload: change }),
    onAccepted: (answer) =>
      watch({ id: answer.workflow_id, url: answer.stream_url }, { id: answer.file_id, url: answer.file_stream_url }),
  });
}

function start() {
  prepareUpload(upload);
  prepareLog(() => state.log, dispatch);
  byId("sample").addEventListener("click", () => upload(sampleFile()));
  byId("upload-cancel").addEventListener("click", () => cancelUpload());
  byId("watch").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = byId("watch-id").value.trim();
    if (id !== "") watch(target("workflow", id), null);
  });
  byId("reconnect").addEventListener("click", () => connections.forEach((connection) => connection.retryNow()));
  const wake = () => connections.forEach((connection) => connection.wake());
  window.addEventListener("online", wake);
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && wake());
  watchHealth((health) => dispatch({ type: "health", health }));
  setInterval(paint, TICK_MS);

  const asked = new URLSearchParams(location.search);
  const workflow = target("workflow", asked.get("workflow"));
  if (workflow !== null) watch(workflow, target("file", asked.get("file")));
  paint();
}

start();
