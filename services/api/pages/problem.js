// Problem details (RFC 9457) as {title, detail, places, text}; also when a proxy answered with something else.

export async function readProblem(answer) {
  const body = await answer.json().catch(() => null);
  return describeProblem(answer.status, body);
}

/** body: parsed JSON or null. places: ["where: what", …]. */
export function describeProblem(status, body) {
  const title = typeof body?.title === "string" ? body.title : `The server answered ${status}`;
  const detail = typeof body?.detail === "string" ? body.detail : "";
  const errors = Array.isArray(body?.errors) ? body.errors : [];
  const places = errors.map(({ where, what }) => (where ? `${where}: ${what}` : `${what}`));
  return { status, title, detail, places, text: detail || title };
}
