// The few ways in which the page touches the document. Text only: nothing a producer sends becomes markup.

export function byId(id) {
  return document.getElementById(id);
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function show(node, visible) {
  node.hidden = !visible;
}

export function element(tag, className = "", text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

/** Makes `parent` hold one child per item, keeping those it has. */
export function syncChildren(parent, items, make, update) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  items.forEach((item, index) => {
    const node = parent.children[index] ?? parent.appendChild(make());
    update(node, item);
  });
}

/** percent: 0-100; null shows that something moves without saying how far. */
export function setProgress(bar, percent, text) {
  if (percent === null) bar.removeAttribute("value");
  else bar.value = percent;
  bar.setAttribute("aria-valuetext", text);
}
