// Folds progress events into the view that `connected` or `reset` brought. Pure.
// The server's fold is the truth; this one only carries it on between two snapshots.

const TERMINAL = new Set(["completed", "failed", "canceled", "terminated", "timed_out"]);
// As the server's view: what a model writes beyond it is cut.
const AI_TEXT_LIMIT = 32 * 1024;
const STEP_LIMIT = 100;

export function isTerminal(view) {
  return view !== null && TERMINAL.has(view.status);
}

/** The view after one more event; the same view when the server marked it as late. */
export function fold(view, name, data) {
  if (data.late === true) return view;
  switch (name) {
    case "workflow_progress":
    case "analysis_progress":
      return foldProgress(view, data);
    case "ai_progress":
      return foldAi(view ?? emptyView(data), data);
    case "temporal_status":
      return foldTemporal(view ?? emptyView(data), data);
    default:
      return view;
  }
}

function emptyView(data) {
  return {
    id: data.workflow_id ?? data.file_id,
    run_id: data.run_id ?? null,
    status: "pending",
    step: null,
    progress: 0,
    message: null,
    error: null,
    result: null,
    metadata: null,
    steps: [],
    ai: null,
    started: null,
    updated: data.timestamp,
  };
}

// An event after the verdict that is not late begins another run.
function beginRunAfterEnd(view, data) {
  if (view === null) return emptyView(data);
  return isTerminal(view) ? { ...emptyView(data), ai: view.ai } : view;
}

function foldProgress(view, data) {
  const base = beginRunAfterEnd(view, data);
  const status = verdict(data);
  return {
    ...base,
    run_id: data.run_id ?? base.run_id,
    status,
    step: data.step,
    progress: data.progress,
    message: data.message ?? null,
    error: data.error ?? null,
    result: data.result ?? base.result,
    metadata: data.metadata ?? base.metadata,
    steps: foldSteps(base.steps, data, status),
    started: base.started ?? data.timestamp,
    updated: data.timestamp,
  };
}

function verdict(data) {
  if (data.canceled === true) return "canceled";
  if (data.error !== undefined && data.error !== null) return "failed";
  return data.progress >= 100 ? "completed" : "running";
}

// A new name ends the step before it; the run's end ends all.
function foldSteps(steps, { step: name, progress, timestamp }, status) {
  const last = steps.at(-1);
  const goesOn = last?.name === name;
  const before = goesOn ? steps.slice(0, -1) : steps.map((step) => endStep(step, "completed", timestamp));
  const current = goesOn
    ? { ...last, progress }
    : { name, state: "running", progress, started: timestamp, ended: null };
  return [...before, status === "running" ? current : endStep(current, status, timestamp)].slice(-STEP_LIMIT);
}

function endStep(step, state, timestamp) {
  return step.ended ? step : { ...step, state, ended: timestamp };
}

function foldAi(view, data) {
  const runId = data.run_id ?? null;
  const isSameStep = view.ai !== null && (view.ai.run_id ?? null) === runId && view.ai.step === data.step;
  const past = isSameStep ? view.ai : { progress: null, message: null, model: null, text: "", result: null };
  const ai = {
    run_id: runId,
    step: data.step,
    progress: data.progress ?? past.progress,
    message: data.message ?? past.message,
    model: data.model ?? past.model,
    text: (past.text + (data.delta ?? "")).slice(0, AI_TEXT_LIMIT),
    result: data.result ?? past.result,
    updated: data.timestamp,
  };
  return { ...view, ai, status: view.status === "pending" ? "running" : view.status, updated: data.timestamp };
}

function foldTemporal(view, data) {
  if (!TERMINAL.has(data.status)) return { ...view, updated: data.timestamp };
  const base = beginRunAfterEnd(view, data);
  const state = ["completed", "canceled"].includes(data.status) ? data.status : "failed";
  return {
    ...base,
    run_id: data.run_id ?? base.run_id,
    status: data.status,
    progress: data.status === "completed" ? 100 : base.progress,
    message: data.message ?? base.message,
    steps: base.steps.map((step) => endStep(step, state, data.timestamp)),
    started: base.started ?? data.timestamp,
    updated: data.timestamp,
  };
}
