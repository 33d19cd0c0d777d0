// The confirmed seat as a thing to keep: on the screen, on paper, as a PDF.

import { el } from "../both/dom.js";
import { day, moment, money, time, zoneNote } from "./format.js";
import { t } from "../both/language.js";

/** `session` may be null when the list no longer has it; `onRefund` null when nothing is left to give back. */
export function ticket(order, session, onRefund) {
  const zone = zoneNote();
  return el("div", { class: "ticket-room" },
    el("article", { class: "ticket", "aria-label": t("ticket_label"), data: { testid: "ticket" } },
      el("div", { class: "ticket-main" },
        el("p", { class: "eyebrow" }, t("ticket_admit")),
        el("h2", {}, session?.course ?? t("unknown_course")),
        session && el("p", { class: "ticket-when" },
          el("span", {}, day(session.starts_at)),
          el("strong", {}, time(session.starts_at)),
          zone && el("small", {}, zone))),
      el("div", { class: "ticket-seat" },
        el("span", {}, t("ticket_seat")),
        el("strong", { data: { testid: "ticket-seat" } }, String(order.seat_no ?? "—"))),
      el("dl", { class: "ticket-stub" }, [
        [t("fact_paid"), money(order.amount_fen), "paid"],
        [t("fact_refunded"), order.refunded_fen > 0 && money(order.refunded_fen)],
        [t("fact_paid_at"), order.paid_at && moment(order.paid_at)],
        [t("fact_order"), order.order_id, "code"],
        [t("fact_transaction"), order.transaction_id, "code"],
      ].filter(([, value]) => value).map(([name, value, kind]) =>
        el("div", { class: kind }, el("dt", {}, name), el("dd", {}, value))))),
    el("div", { class: "actions no-print" },
      el("button", { type: "button", class: "button quiet", on: { click: () => print() } }, t("ticket_print")),
      onRefund && el("button", {
        type: "button", class: "button quiet", data: { testid: "refund-open" }, on: { click: onRefund },
      }, t("refund_open"))));
}
