// What an order is about, row by row: the same list while it is placed, paid and looked up later.

import { el } from "../both/dom.js";
import { moment, money, zoneNote } from "./format.js";
import { t } from "../both/language.js";

/** Elsewhere `seat_no` is a seat the customer wished for, or has lost. */
const HAS_SEAT = ["placing", "submitted", "held", "awaiting_payment"];

/** `session` may be null when it is not known (yet). */
export function factList(order, session) {
  const zone = zoneNote() && ` (${zoneNote()})`;
  const seat = order.seat_no ? t("seat_n", { n: order.seat_no }) : t("fact_any");
  return el("dl", { class: "facts", "aria-label": t("facts_label") }, [
    [t("fact_course"), session?.course],
    [t("fact_time"), session && moment(session.starts_at) + zone],
    [t("fact_seat"), HAS_SEAT.includes(order.status) && seat],
    [t("fact_amount"), money(order.amount_fen)],
    [t("fact_refunded"), order.refunded_fen > 0 && money(order.refunded_fen)],
    [t("fact_order"), order.order_id, "code"],
  ].filter(([, value]) => value).map(([name, value, kind]) =>
    el("div", {}, el("dt", {}, name), el("dd", { class: kind }, value))));
}
