// The customer's own orders, newest first: the way back to a ticket, or to a QR code not yet paid.

import * as api from "./api.js";
import { find } from "./catalogue.js";
import { el } from "./dom.js";
import { moment, money } from "./format.js";
import { t } from "./language.js";
import { notice } from "./notice.js";
import { describe } from "./status.js";

export async function mineView({ root, signal, retitle }) {
  retitle(t("orders_title"));
  const list = el("ul", { class: "orders" });
  const more = el("button", { type: "button", class: "button quiet wide", hidden: true }, t("more"));
  const room = el("div", {}, el("p", { class: "hint", role: "status" }, t("loading")));
  root.append(el("div", { class: "intro" }, el("h1", { tabindex: -1 }, t("orders_title"))), room, list, more);

  let cursor;
  more.addEventListener("click", load);
  await load();

  async function load() {
    more.disabled = true;
    try {
      const answer = await api.orders(cursor, signal);
      cursor = answer.next;
      room.replaceChildren();
      list.append(...answer.items.map(row));
      if (!list.hasChildNodes()) room.replaceChildren(nothing());
      more.hidden = !cursor;
    } catch (error) {
      if (!signal.aborted) room.replaceChildren(notice(error, { onRetry: load }));
    }
    more.disabled = false;
  }
}

function row(order) {
  const { short, tone } = describe(order);
  const seat = order.seat_no ? t("seat_n", { n: order.seat_no }) : "";
  const course = el("strong", {}, t("unknown_course"));
  const when = el("span", {}, moment(order.created_at));
  find(order.schedule_id).then((session) => {
    if (!session) return;
    course.textContent = session.course;
    when.textContent = moment(session.starts_at);
  }).catch(() => { /* the row stands without its course's name */ });
  return el("li", {},
    el("a", { class: "order", href: `#/orders/${encodeURIComponent(order.order_id)}` },
      el("span", { class: "order-what" }, course, when),
      el("span", { class: "order-more" },
        el("span", {}, [seat, money(order.amount_fen)].filter(Boolean).join(" · ")),
        el("span", { class: "chip", data: { tone } }, short))));
}

const nothing = () =>
  el("div", { class: "empty" },
    el("p", {}, t("orders_none")),
    el("a", { class: "button", href: "#/" }, t("orders_none_go")));
