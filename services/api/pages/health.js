// Asks the service how it is, for the chip in the header.

const INTERVAL_MS = 15_000;
const TIMEOUT_MS = 5_000;

/** Reports {status, services, active_streams} now and every 15 s while the page is visible. */
export function watchHealth(onHealth) {
  const ask = async () => {
    if (document.visibilityState === "visible") onHealth(await readHealth());
    setTimeout(ask, INTERVAL_MS);
  };
  ask();
}

async function readHealth() {
  try {
    const answer = await fetch("/stream/health", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    const body = await answer.json();
    // 503 tells the state of the services too.
    if (typeof body.status === "string") return body;
  } catch {
    // Falls through: no answer and an unreadable one mean the same to the viewer.
  }
  return { status: "unreachable", services: {}, active_streams: null };
}
