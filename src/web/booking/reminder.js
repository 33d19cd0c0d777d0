// Brings a customer who wandered off back to what is unfinished: a wish without an answer, or an
// order that waits for their payment; among these the seat that the waiting list has got them.

import * as api from "./api.js";
import { el } from "../both/dom.js";
import { pending } from "./intent.js";
import { t } from "../both/language.js";
import { repeat } from "../both/pace.js";

const EVERY = 10_000;

/** An element that fills itself if there is something to remind of. */
export function reminder(signal) {
  const node = el("div", { hidden: true });
  const show = (text, href, link) => {
    node.replaceChildren(el("a", { class: "reminder", href }, el("span", {}, text), el("strong", {}, link)));
    node.hidden = false;
  };
  if (pending()) {
    show(t("remind_doubt"), "#/booking", t("remind_doubt_go"));
  } else {
    let shown = null; // a reminder that does not come is no trouble
    repeat(async () => {
      const { items } = await api.orders(undefined, signal);
      const open = items.find(({ status }) => status === "awaiting_payment")?.order_id ?? null;
      if (open !== shown && open) show(t("remind_pay"), `#/orders/${encodeURIComponent(open)}`, t("remind_pay_go"));
      node.hidden = !open;
      shown = open;
    }, { every: EVERY, signal });
  }
  return node;
}
