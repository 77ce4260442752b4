// A result of any shape, readable: sentences as paragraphs, lists as chips or items, the rest as name and value.

import { byId, element, setText, show } from "./dom.js";
import { words } from "./format.js";

const DEPTH_LIMIT = 4;
const SENTENCE = 80;
let shown = null;

export function showResult(result) {
  if (result === shown) return;
  shown = result;
  show(byId("result-box"), result !== null);
  byId("result").replaceChildren(...(result === null ? [] : [render(result, 0)]));
  setText(byId("result-raw"), result === null ? "" : JSON.stringify(result, null, 2));
}

function render(value, depth) {
  if (Array.isArray(value)) return renderList(value, depth);
  if (typeof value === "object" && value !== null) return renderObject(value, depth);
  return element("span", "", plain(value));
}

function renderObject(object, depth) {
  if (depth >= DEPTH_LIMIT) return element("code", "", JSON.stringify(object));
  const list = element("dl");
  for (const [name, value] of ordered(object)) {
    const pair = element("div", isLong(value) ? "wide" : "");
    const definition = element("dd");
    definition.append(render(value, depth + 1));
    pair.append(element("dt", "", words(name)), definition);
    list.append(pair);
  }
  return list;
}

function renderList(items, depth) {
  if (items.length === 0) return element("span", "hint", "none");
  if (depth >= DEPTH_LIMIT) return element("code", "", JSON.stringify(items));
  const short = items.every((item) => typeof item !== "object" && plain(item).length <= SENTENCE / 2);
  const list = element("ul", short ? "chips" : "items");
  for (const item of items) {
    const entry = element("li");
    entry.append(render(item, depth + 1));
    list.append(entry);
  }
  return list;
}

// Short values first: they stand side by side, what needs a line of its own follows.
function ordered(object) {
  const pairs = Object.entries(object);
  return [...pairs.filter(([, value]) => !isLong(value)), ...pairs.filter(([, value]) => isLong(value))];
}

function isLong(value) {
  return typeof value === "object" ? value !== null : plain(value).length > SENTENCE / 2;
}

function plain(value) {
  if (value === null) return "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number" ? value.toLocaleString("en") : String(value);
}
