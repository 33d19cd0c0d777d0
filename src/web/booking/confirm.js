// A question before something that cannot be taken back, asked in the page and where the button was:
// what will happen is read in peace, and nothing covers it.

import { el } from "../both/dom.js";

let asked = 0;

/**
 * The question as an element. `onYes` and `onNo` are called once; Escape is no.
 * `focus()` brings the customer to it.
 */
export function question({ title, text, yes, no, onYes, onNo }) {
  const id = `question-${asked += 1}`;
  const heading = el("h2", { id, tabindex: -1 }, title);
  let open = true;
  const answer = (deed) => () => {
    if (!open) return;
    open = false;
    deed();
  };
  const node = el("section", {
    class: "deed", role: "group", "aria-labelledby": id, data: { testid: "question" },
    on: { keydown: (event) => { if (event.key === "Escape") answer(onNo)(); } },
  },
    heading, el("p", {}, text),
    el("div", { class: "actions" },
      el("button", { type: "button", class: "button", data: { testid: "yes" }, on: { click: answer(onYes) } }, yes),
      el("button", { type: "button", class: "button quiet", data: { testid: "no" }, on: { click: answer(onNo) } }, no)));
  return {
    node,
    focus() {
      heading.focus({ preventScroll: true });
      node.scrollIntoView({ block: "nearest" });
    },
  };
}
