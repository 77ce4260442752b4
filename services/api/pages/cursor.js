// A cursor is `<epoch>.<pos>`, or `0` for a topic nobody has published to yet.

export function parseCursor(text) {
  const match = /^(?:(.+)\.)?(\d+)$/.exec(text ?? "");
  return match ? { epoch: match[1] ?? null, pos: Number(match[2]) } : null;
}

/** True when an event at `text` is not part of a view that was taken at `seen`. */
export function isNews(text, seen) {
  const candidate = parseCursor(text);
  const known = parseCursor(seen);
  if (candidate === null) return false;
  if (known === null || known.epoch !== candidate.epoch) return true;
  return candidate.pos > known.pos;
}
