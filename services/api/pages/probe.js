// Plain requests that find out what EventSource does not tell.

import { isNews } from "./cursor.js";
import { readProblem } from "./problem.js";

const TIMEOUT_MS = 10_000;
// Refusals that pass by themselves, besides every 5xx.
const PASSING = new Set([408, 425, 429]);

/** Why was this stream refused? Answers with a signal for link.js: ended, refused or lost. */
export async function askWhy(url) {
  const abort = new AbortController();
  const tooLong = setTimeout(() => abort.abort(), TIMEOUT_MS);
  try {
    const answer = await fetch(url, { signal: abort.signal, headers: { Accept: "text/event-stream" } });
    if (answer.status === 204) return { kind: "ended", reason: "nothing left to send" };
    if (answer.ok) return { kind: "lost", reason: "the answer was not a whole event stream" };
    const { text } = await readProblem(answer);
    if (answer.status < 500 && !PASSING.has(answer.status)) return { kind: "refused", reason: text };
    const seconds = Number(answer.headers.get("Retry-After")) || 0;
    return { kind: "lost", reason: text, retryAfter: 1000 * seconds };
  } catch {
    return { kind: "lost", reason: "the server cannot be reached" };
  } finally {
    clearTimeout(tooLong);
    // A 200 is a whole new stream that nobody reads.
    abort.abort();
  }
}

/** Does the store hold events of this topic that came after `cursor`? Also true when it cannot be asked. */
export async function hasMovedOn(kind, { id, cursor }) {
  try {
    const path = `/views/${kind}/${encodeURIComponent(id)}`;
    const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    return answer.ok && isNews((await answer.json()).cursor, cursor);
  } catch {
    return true;
  }
}
