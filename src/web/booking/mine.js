// The customer's own orders: what waits for payment, what is to come, what is over. The way back to a
// ticket, to a QR code not yet paid, and to money back.

import * as api from "./api.js";
import { find } from "./catalogue.js";
import { now } from "../both/clock.js";
import { el } from "../both/dom.js";
import { moment, money, time } from "./format.js";
import { t } from "../both/language.js";
import { notice } from "./notice.js";
import { describe } from "./status.js";

const UNPAID = ["submitted", "held", "awaiting_payment", "lapsed"];

export async function mineView({ root, signal, retitle }) {
  retitle(t("orders_title"));
  const groups = {
    unpaid: group("orders_unpaid"),
    upcoming: group("orders_upcoming"),
    over: group("orders_over"),
  };
  const more = el("button", { type: "button", class: "button quiet wide", hidden: true, data: { testid: "more" } },
    t("more"));
  const room = el("div", {}, el("p", { class: "hint", role: "status" }, t("loading")));
  root.append(el("div", { class: "intro" }, el("h1", { tabindex: -1 }, t("orders_title"))),
    room, ...Object.values(groups).map(({ node }) => node), more);

  const upcoming = [];
  let cursor;
  let any = false;
  more.addEventListener("click", load);
  await load();

  async function load() {
    more.disabled = true;
    try {
      const answer = await api.orders(cursor, signal);
      const sessions = await Promise.all(answer.items.map(({ schedule_id }) => find(schedule_id).catch(() => null)));
      if (signal.aborted) return;
      cursor = answer.next;
      any ||= answer.items.length > 0;
      room.replaceChildren(...(any ? [] : [nothing()]));
      answer.items.forEach((order, n) => place(order, sessions[n]));
      more.hidden = !cursor;
    } catch (error) {
      if (!signal.aborted) room.replaceChildren(notice(error, { onRetry: load }));
    }
    more.disabled = false;
  }

  /** Newest first, as they come; those to come in the order in which they take place. */
  function place(order, session) {
    const starts = Date.parse(session?.starts_at ?? "");
    const coming = order.status === "confirmed" && !(starts <= now());
    if (!coming) return groups[UNPAID.includes(order.status) ? "unpaid" : "over"].add(row(order, session));
    const at = upcoming.findIndex((other) => other > starts);
    upcoming.splice(at < 0 ? upcoming.length : at, 0, starts);
    groups.upcoming.add(row(order, session, true), at < 0 ? undefined : at);
  }
}

function group(title) {
  const list = el("ul", { class: "orders" });
  const node = el("section", { class: "order-group", hidden: true, "aria-labelledby": title, data: { testid: title } },
    el("h2", { id: title }, t(title)), list);
  return {
    node,
    add(item, at = list.children.length) {
      node.hidden = false;
      list.insertBefore(item, list.children[at] ?? null);
    },
  };
}

/** `session` may be null; `coming`: a seat that can still be given back. */
function row(order, session, coming = false) {
  const { short, tone } = describe(order);
  const path = `#/orders/${encodeURIComponent(order.order_id)}`;
  const seat = order.seat_no ? t("seat_n", { n: order.seat_no }) : "";
  const until = order.status === "lapsed"
    ? order.pay_before && t("pay_until", { time: time(order.pay_before) })
    : order.hold_expires_at && t("hold_until", { time: time(order.hold_expires_at) });
  return el("li", { class: "order-row" },
    el("a", { class: "order", href: path },
      el("span", { class: "order-what" },
        el("strong", {}, session?.course ?? t("unknown_course")),
        el("span", {}, moment(session?.starts_at ?? order.created_at))),
      el("span", { class: "order-more" },
        el("span", {}, [seat, money(order.amount_fen)].filter(Boolean).join(" · ")),
        el("span", { class: "chip", data: { tone } }, short))),
    UNPAID.includes(order.status) && until && el("p", { class: "order-deed" }, until),
    coming && order.refunded_fen < order.amount_fen && el("p", { class: "order-deed" },
      el("a", { class: "link", href: `${path}/refund` }, t("refund_open"))));
}

const nothing = () =>
  el("div", { class: "empty" },
    el("p", {}, t("orders_none")),
    el("a", { class: "button", href: "#/" }, t("orders_none_go")));
