// Where an order is, told the same way in every view: three steps, a heading, one sentence.
// A status this page does not know yet reads "being updated", never as a failure.

import { announce, el } from "./dom.js";
import { t } from "./language.js";

/** Per status: the step it belongs to (0 seat, 1 payment, 2 done; none on the way back) and its tone. */
const STATUSES = {
  submitted: { step: 0, tone: "wait" },
  held: { step: 0, tone: "wait" },
  awaiting_payment: { step: 1, tone: "pay" },
  confirmed: { step: 3, tone: "good" },
  rejected: { step: 0, tone: "stop" },
  lapsed: { step: 1, tone: "stop" },
  cancelled: { step: null, tone: "stop" },
  expired: { step: 1, tone: "stop" },
  refunding: { step: null, tone: "wait" },
  refunded: { step: null, tone: "stop" },
};

/** `{title, text, short, step, tone}` of an order document. */
export function describe({ status, reason }) {
  const known = status in STATUSES ? status : "unknown";
  const why = status === "rejected" ? `rejected_${String(reason ?? "").replace(/-/g, "_")}` : "";
  return {
    ...(STATUSES[known] ?? { step: 1, tone: "wait" }),
    title: t(known),
    text: t(["rejected_sold_out", "rejected_seat_taken"].includes(why) ? why : `${known}_text`),
    short: t(`short_${known}`),
  };
}

/** The block at the head of a view: `{node, show({status, title, text, step, tone})}`. */
export function statusBlock() {
  const steps = ["step_seat", "step_pay", "step_done"].map((key) => el("li", {}, el("span", {}, t(key))));
  const heading = el("h1", { tabindex: -1, data: { testid: "status" } });
  const text = el("p", { class: "lead" });
  const list = el("ol", { class: "steps", "aria-label": t("steps_label") }, steps);
  const node = el("div", { class: "status" }, list, heading, text);
  return {
    node,
    show(now) {
      node.dataset.tone = now.tone;
      heading.dataset.status = now.status ?? "";
      heading.textContent = now.title;
      text.textContent = now.text;
      list.hidden = now.step === null;
      steps.forEach((step, n) => {
        step.dataset.state = n < now.step ? "done" : n === now.step ? now.tone : "ahead";
        if (n === now.step) step.setAttribute("aria-current", "step");
        else step.removeAttribute("aria-current");
      });
      announce(`${now.title}. ${now.text}`);
    },
  };
}
