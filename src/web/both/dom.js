// Builds elements from plain values. Text always goes in as text, so nothing a server or a
// customer wrote can become markup; this is why the page has no innerHTML anywhere.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `props`: attributes by name; `on`: listeners; `data`: data-attributes; `class`. */
export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Something only a screen reader says. */
export const unseen = (text) => el("span", { class: "unseen" }, text);

/** What the API wrote into the document's head for the page, or an empty string. */
export const setting = (name) => document.querySelector(`meta[name="holdfast-${name}"]`)?.content ?? "";

let last = "";

/** Says `text` once to a screen reader, wherever the focus is. */
export function announce(text) {
  if (text === last) return;
  last = text;
  document.getElementById("announcer").textContent = text;
}

function fill(node, { on = {}, data = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  for (const [name, value] of Object.entries(data)) {
    if (value !== null && value !== undefined) node.dataset[name] = String(value);
  }
  for (const [name, listener] of Object.entries(on)) node.addEventListener(name, listener);
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}
