// The connection bar, the health chip, and what is read out.

import { byId, setText, show } from "./dom.js";
import { clock, plural, statusWord, words } from "./format.js";
import { isWaiting } from "./link.js";

const WORDS = {
  idle: "Idle",
  connecting: "Connecting…",
  open: "Open",
  reconnecting: "Reconnecting",
  offline: "Offline",
  closed: "Ended",
  failed: "Failed",
};

export function showLinks(streams, now) {
  showLink(byId("link-workflow"), streams.workflow, now);
  showLink(byId("link-file"), streams.file, now);
  show(byId("link-file"), streams.file !== null);
  const links = [streams.workflow, streams.file].filter(Boolean).map(({ link }) => link);
  show(byId("reconnect"), links.some((link) => isWaiting(link) || link.state === "failed"));
}

function showLink(box, stream, now) {
  const part = (name) => box.querySelector(`.link-${name}`);
  const link = stream?.link ?? { state: "idle", attempt: 0, retryAt: null, reason: null };
  box.dataset.state = link.state;
  const gaveUp = link.state === "failed" && link.attempt > 0;
  setText(part("state"), gaveUp ? "Given up" : WORDS[link.state]);
  const counts = link.state === "reconnecting" || gaveUp;
  show(part("attempt"), counts);
  setText(part("attempt"), counts ? `attempt ${link.attempt} of ${link.attempts}` : "");
  const waits = isWaiting(link);
  show(part("countdown"), waits);
  setText(part("countdown"), waits ? `in ${Math.max(0, Math.ceil((link.retryAt - now) / 1000))} s` : "");
  const reason = link.state === "open" || link.state === "connecting" ? null : link.reason;
  show(part("reason"), Boolean(reason));
  setText(part("reason"), reason ? String(reason) : "");
  setText(part("id").lastElementChild, stream?.cursor ?? "none");
}

export function showHealth(health) {
  if (health === null) return;
  byId("health").dataset.state = health.status;
  const ill = Object.entries(health.services ?? {}).filter(([, state]) => state !== "healthy");
  const why = ill.map(([name, state]) => `${name} ${String(state).replaceAll("_", " ")}`);
  const count = Number.isFinite(health.active_streams) ? [plural(health.active_streams, "active stream")] : [];
  setText(byId("health-text"), [words(health.status), ...why, ...count].join(" · "));
}

/** One sentence that changes with a step, a verdict or a connection, and not with every percent. */
export function announcement({ streams, upload }) {
  if (upload.phase === "refused") return `Upload refused. ${upload.problem.text}`;
  if (upload.phase === "broken") return "The upload did not reach the server.";
  const { workflow } = streams;
  if (workflow === null) return upload.phase === "sending" ? `Uploading ${upload.name}.` : "";
  const { view, link } = workflow;
  const step = view?.status === "running" && view.step ? `: ${words(view.step)}` : "";
  const progress = view === null ? "Waiting for the first event" : `Workflow ${statusWord(view.status).toLowerCase()}${step}`;
  return `${progress}. Connection ${WORDS[link.state].replace("…", "").toLowerCase()}.`;
}

/** What went finally wrong, or "". */
export function finalFailure({ streams: { workflow } }) {
  if (workflow === null) return "";
  const { view, link } = workflow;
  if (view?.status === "failed") return view.error ?? "The workflow failed.";
  if (link.state !== "failed") return "";
  const what = link.attempt > 0 ? `was given up after ${plural(link.attempt, "attempt")}` : "failed";
  const shown = view === null ? "" : ` What is shown is from ${clock(link.heardAt).slice(0, 8)}.`;
  return `The stream ${what}: ${link.reason}.${shown}`;
}
