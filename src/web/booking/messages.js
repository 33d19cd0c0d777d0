// What WeChat told the customer about an order, folded until somebody wonders.

import * as api from "./api.js";
import { el } from "../both/dom.js";
import { moment } from "./format.js";
import { t } from "../both/language.js";
import { message } from "./notice.js";

const KINDS = {
  booking_confirmed: "message_booking_confirmed",
  booking_failed: "message_booking_failed",
  hold_lapsed: "message_hold_lapsed",
  order_expired: "message_order_expired",
  payment_received: "message_payment_received",
  refunded: "message_refunded",
  waitlist_offer: "message_waitlist_offer",
};
const STATUSES = {
  pending: "message_pending",
  sent: "message_sent",
  failed: "message_failed",
  uncertain: "message_uncertain",
};
/** WeChat Official Account, error codes: the customer does not follow the account. */
const NO_FOLLOWER = 43004;

/** `{node, update(order)}` */
export function messages(id, signal) {
  const list = el("ul");
  const note = el("p", { class: "hint", role: "status" });
  const node = el("details", { class: "messages no-print", data: { testid: "messages" }, on: { toggle: read } },
    el("summary", {}, t("messages")), note, list);
  let version = null;
  let shown = null;

  async function read() {
    if (!node.open || shown === version) return;
    const wanted = version;
    note.textContent = list.hasChildNodes() ? "" : t("loading");
    try {
      const { items } = await api.notifications(id, signal);
      shown = wanted;
      note.textContent = items.length > 0 ? "" : t("messages_none");
      list.replaceChildren(...items.map(row));
    } catch (error) {
      if (!signal.aborted) note.textContent = message(error);
    }
  }

  return {
    node,
    update(order) {
      version = order.version;
      read();
    },
  };
}

function row({ kind, status, created_at, sent_at, errcode }) {
  const word = status === "failed" && errcode === NO_FOLLOWER ? "message_no_follower" : STATUSES[status];
  return el("li", {},
    el("span", {}, t(KINDS[kind] ?? "message_other")),
    el("small", {}, [t(word ?? "message_pending"), moment(sent_at ?? created_at)].join(" · ")));
}
