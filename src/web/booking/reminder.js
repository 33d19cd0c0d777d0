// Brings a customer who wandered off back to what is unfinished: a wish without an answer, or an
// order that waits for their payment.

import * as api from "./api.js";
import { el } from "./dom.js";
import { pending } from "./intent.js";
import { t } from "./language.js";

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
    api.orders(undefined, signal).then(({ items }) => {
      const open = items.find(({ status }) => status === "awaiting_payment");
      if (open) show(t("remind_pay"), `#/orders/${encodeURIComponent(open.order_id)}`, t("remind_pay_go"));
    }).catch(() => { /* a reminder that does not come is no trouble */ });
  }
  return node;
}
