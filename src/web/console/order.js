// One order: what it is now.

import { el } from "../both/dom.js";
import { money } from "../both/format.js";
import { t } from "../both/language.js";
import * as api from "./api.js";
import { refresh } from "./live.js";
import { facts, heading, moment, status } from "./say.js";
import { place } from "./trouble.js";

export function orderView({ root, signal, retitle, id }) {
  retitle(id);
  const where = place(() => again());
  root.append(el("a", { class: "back", href: "#/orders" }, t("nav_orders")), heading(el("span", { class: "id" }, id)), where.node);
  const again = refresh(signal, async () => {
    const order = await api.order(id, signal);
    if (!signal.aborted) where.show(standing(order));
  }, { onTrouble: (error) => where.trouble(error) });
}

function standing(order) {
  const when = (at) => at && el("time", { datetime: at }, moment(at));
  return el("section", { class: "card", data: { testid: "order" } }, facts([
    [t("status"), status(order.status)],
    [t("customer"), el("a", { class: "id", href: `#/orders?text=${encodeURIComponent(order.user_id)}` }, order.user_id)],
    [t("session"), el("a", { class: "id", href: `#/sessions/${encodeURIComponent(order.schedule_id)}` }, order.schedule_id)],
    [t("seat"), order.seat_no],
    [t("amount"), money(order.amount_fen)],
    [t("refunded"), order.refunded_fen > 0 ? money(order.refunded_fen) : null],
    [t("reason"), order.reason],
    [t("transaction"), order.transaction_id && el("span", { class: "id" }, order.transaction_id)],
    [t("placed"), when(order.created_at)],
    [t("hold_until"), ["held", "awaiting_payment"].includes(order.status) ? when(order.hold_expires_at) : null],
    [t("pay_until"), ["held", "awaiting_payment", "lapsed"].includes(order.status) ? when(order.pay_before) : null],
    [t("paid"), when(order.paid_at)],
    [t("changed"), when(order.updated_at)],
    [t("version"), order.version],
  ]));
}
