// Words and figures as the page shows them.

const STATUS = {
  pending: "Pending",
  running: "Running",
  completed: "Completed",
  failed: "Failed",
  canceled: "Canceled",
  terminated: "Terminated",
  timed_out: "Timed out",
  unknown: "Unknown",
};
const MARKS = { pending: "○", running: "●", completed: "✓", failed: "✕", canceled: "–", terminated: "✕", timed_out: "✕" };

export function statusWord(status) {
  return STATUS[status] ?? words(status);
}

export function statusMark(status) {
  return MARKS[status] ?? "?";
}

/** "key_phrases" → "Key phrases". */
export function words(name) {
  const text = String(name ?? "").replaceAll(/[_-]+/g, " ").trim();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function duration(milliseconds) {
  if (!Number.isFinite(milliseconds)) return "";
  const ms = Math.max(0, milliseconds);
  if (ms < 100) return "< 0.1 s";
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const minutes = Math.floor(ms / 60_000);
  const seconds = String(Math.floor((ms % 60_000) / 1000)).padStart(2, "0");
  if (minutes < 60) return `${minutes}:${seconds} min`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** Local wall time "14:03:07.120". */
export function clock(ms) {
  const date = new Date(ms);
  const two = (value) => String(value).padStart(2, "0");
  const fraction = String(date.getMilliseconds()).padStart(3, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${fraction}`;
}

export function percent(value) {
  return `${Math.round(value)} %`;
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  if (count < 1024 ** 2) return `${(count / 1024).toFixed(1)} KiB`;
  return `${(count / 1024 ** 2).toFixed(1)} MiB`;
}

export function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}
