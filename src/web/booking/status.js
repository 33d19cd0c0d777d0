// Where an order is, told the same way in every view: three steps, a heading, one sentence.
// A status this page does not know yet reads "being updated", never as a failure.

import { announce, el } from "../both/dom.js";
import { money, time } from "./format.js";
import { t } from "../both/language.js";

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

/** Why an order was rejected. */
const REASONS = {
  "sold-out": "rejected_sold_out",
  "seat-taken": "rejected_seat_taken",
  "amount-mismatch": "rejected_amount_mismatch",
  "schedule-closed": "rejected_schedule_closed",
  "not-on-sale": "rejected_not_on_sale",
  "limit-reached": "rejected_limit_reached",
  "no-such-schedule": "rejected_no_such_schedule",
};

/** `{title, text, short, step, tone}` of an order document. */
export function describe(order) {
  const known = order.status in STATUSES ? order.status : "unknown";
  return {
    ...(STATUSES[known] ?? { step: 1, tone: "wait" }),
    title: t(known),
    text: sentence(order, known),
    short: t(partly(order) ? "short_part" : `short_${known}`),
  };
}

const partly = ({ status, refunded_fen }) => status === "confirmed" && refunded_fen > 0;

function sentence(order, known) {
  if (known === "rejected") return t(REASONS[order.reason] ?? "rejected_text");
  if (partly(order)) return t("confirmed_part", { amount: money(order.refunded_fen) });
  // Paid when no seat was left, or after the end of the sale.
  if (order.reason && ["refunding", "refunded"].includes(known)) {
    const [refunding, refunded] =
      order.reason === "not-on-sale" ? ["refunding_closed", "refunded_closed"] : ["refunding_late", "refunded_late"];
    return t(known === "refunding" ? refunding : refunded, { amount: money(order.amount_fen) });
  }
  // Closed before its time: the last seat went to somebody else.
  if (known === "expired" && Date.parse(order.updated_at) < Date.parse(order.pay_before)) return t("expired_early");
  return t(`${known}_text`, { amount: money(order.refunded_fen), time: time(order.pay_before) });
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
