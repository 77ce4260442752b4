// The workflow panel and the file's bar.

import { byId, element, setProgress, setText, show, syncChildren } from "./dom.js";
import { clock, duration, percent, statusMark, statusWord, words } from "./format.js";
import { isTerminal } from "./fold.js";
import { isLive } from "./link.js";
import { finalFailure } from "./show_link.js";
import { showResult } from "./show_result.js";

export function showWorkflow(state, now) {
  const stream = state.streams.workflow;
  const view = stream?.view ?? null;
  byId("workflow").dataset.status = view?.status ?? "none";
  show(byId("empty"), stream === null);
  show(byId("skeleton"), stream !== null && !stream.known && stream.link.state === "connecting");
  show(byId("body"), stream !== null);
  setText(byId("alert"), finalFailure(state));
  showNotice(stream);
  showBadge(byId("status"), view);
  show(byId("elapsed-box"), view !== null);
  if (stream === null) return;
  setText(byId("workflow-id"), stream.id);
  setText(byId("temporal"), temporalText(stream));
  showProgress("", view, stream.known ? "Nothing has been published for this id yet; waiting." : "");
  // What runs on without us must not seem to be watched: the clocks stand still with the data.
  const live = isLive(stream.link);
  const serverNow = (live ? now : stream.link.heardAt) - stream.skew;
  setText(byId("elapsed"), view === null ? "" : duration(end(view, serverNow) - Date.parse(view.started)));
  showSteps(view?.steps ?? [], serverNow);
  showAi(view?.ai ?? null, live && !isTerminal(view));
  showResult(view?.result ?? null);
}

export function showFile({ streams: { file } }) {
  show(byId("file-panel"), file !== null);
  if (file === null) return;
  setText(byId("file-id"), file.id);
  showBadge(byId("file-status"), file.view);
  showProgress("file-", file.view, "Waiting for the first event");
}

function showBadge(badge, view) {
  show(badge, view !== null);
  if (view === null) return;
  badge.dataset.status = view.status;
  badge.dataset.mark = statusMark(view.status);
  setText(badge, statusWord(view.status));
}

function showProgress(prefix, view, waiting) {
  const done = view?.progress ?? 0;
  const text = view === null ? waiting : (view.message ?? words(view.step));
  setText(byId(`${prefix}message`), text);
  setText(byId(`${prefix}percent`), view === null ? "" : percent(done));
  const bar = byId(`${prefix}progress`);
  bar.dataset.status = view?.status ?? "none";
  setProgress(bar, done, view === null ? "waiting" : `${percent(done)}, ${words(view.step)}`);
}

function showNotice(stream) {
  const lines = [];
  if (stream?.notice) lines.push(stream.notice.message ?? stream.notice.code);
  const waits = stream !== null && !isLive(stream.link) && stream.link.state !== "failed";
  if (waits && stream.view !== null && !isTerminal(stream.view)) {
    lines.push(`Not live: the last event came at ${clock(stream.link.heardAt).slice(0, 8)}.`);
  }
  show(byId("notice"), lines.length > 0);
  setText(byId("notice"), lines.join(" "));
}

// Temporal is asked once, on connect: "running" beside a verdict would be yesterday's news. What other
// producers publish it does not know.
function temporalText({ temporal, view }) {
  if (temporal === null || temporal === "unknown" || (isTerminal(view) && temporal === "running")) return "";
  return `Temporal: ${statusWord(temporal).toLowerCase()}`;
}

function end(view, serverNow) {
  return isTerminal(view) ? Date.parse(view.updated) : serverNow;
}

function showSteps(steps, serverNow) {
  show(byId("steps-box"), steps.length > 0);
  syncChildren(byId("steps"), steps, makeStep, (item, step) => {
    item.dataset.state = step.state;
    const [mark, name, state, time] = item.children;
    setText(mark, statusMark(step.state));
    setText(name, words(step.name));
    setText(state, statusWord(step.state));
    const until = step.ended ? Date.parse(step.ended) : serverNow;
    setText(time, step.started ? duration(until - Date.parse(step.started)) : "");
  });
}

function makeStep() {
  const item = element("li");
  const mark = element("span", "step-mark");
  mark.setAttribute("aria-hidden", "true");
  item.append(mark, element("span", "step-name"), element("span", "step-state"), element("span", "step-time number"));
  item.dataset.testid = "step";
  return item;
}

function showAi(ai, goesOn) {
  const text = ai?.text || ai?.message || "";
  show(byId("ai-box"), text !== "");
  if (text === "") return;
  setText(byId("ai-model"), ai.model ?? "");
  const box = byId("ai-text");
  const follows = box.scrollHeight - box.scrollTop - box.clientHeight < 8;
  box.dataset.writing = String(goesOn && ai.result === null);
  setText(box, text);
  if (follows) box.scrollTop = box.scrollHeight;
}
