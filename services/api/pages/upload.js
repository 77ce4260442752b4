// Sends one file. XMLHttpRequest, because fetch cannot tell how much was sent.

import { describeProblem } from "./problem.js";

/**
 * Reports `{phase, name, loaded, total, problem}` to onChange and the server's answer to onAccepted.
 * phase: sending → storing → done, or refused (problem), broken, canceled. Returns cancel().
 */
export function sendFile(file, { userId, onChange, onAccepted }) {
  const request = new XMLHttpRequest();
  const report = (phase, more = {}) => onChange({ phase, name: file.name, loaded: 0, total: file.size, ...more });

  request.upload.addEventListener("progress", ({ loaded, total }) => report("sending", { loaded, total }));
  request.upload.addEventListener("load", () => report("storing"));
  request.addEventListener("error", () => report("broken"));
  request.addEventListener("abort", () => report("canceled"));
  request.addEventListener("load", () => {
    const body = parseBody(request.responseText);
    if (request.status === 202 && body?.workflow_id) {
      report("done");
      onAccepted(body);
    } else {
      report("refused", { problem: describeProblem(request.status, body) });
    }
  });

  const form = new FormData();
  form.append("file", file);
  if (userId !== "") form.append("user_id", userId);
  report("sending");
  request.open("POST", "/upload");
  request.send(form);
  return () => request.abort();
}

function parseBody(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const SAMPLE = `A short note on progress

Long work should say where it stands. A person who waits for a document to be read wants to know three
things: that the work has begun, how far it has come, and what came of it. A bar that fills by a timer
answers none of them.

How this system answers

Every step of the work is an event. An event is written once to a log, with a number that leaves no gap.
Views are folded from the log: the state of one workflow, of one file, of one person's work. A viewer
gets the view first and the events after it, each with its position, so a lost connection can go on
exactly where it broke off.

What this sample is for

The text you are reading was made in your browser and uploaded as a plain file. The worker identifies it,
extracts the text, finds its language and key phrases, writes a summary and concludes. Each of these steps
shows up on the page while it happens.
`;

export function sampleFile() {
  return new File([SAMPLE], "sample.txt", { type: "text/plain" });
}
