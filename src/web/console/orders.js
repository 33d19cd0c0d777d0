// Finding an order: by any number that a customer, a receipt or WeChat's support can name. Without one,
// those that moved last.

import { el } from "../both/dom.js";
import { t } from "../both/language.js";
import * as api from "./api.js";
import { refresh } from "./live.js";
import { ago, heading, more, none, orderLink, status, sum } from "./say.js";
import { table } from "./table.js";
import { nothing, place } from "./trouble.js";

export function ordersView({ root, signal, retitle, query, remember, go }) {
  retitle(t("nav_orders"));
  const text = query.get("text") ?? "";
  const input = el("input", {
    type: "search", id: "order-text", value: text, placeholder: t("order_text_hint"), autocomplete: "off", autocapitalize: "none",
    spellcheck: "false", maxlength: 128, data: { testid: "order-text", firstFocus: text ? null : true },
  });
  const search = (event) => {
    event.preventDefault();
    const wanted = input.value.trim();
    go(wanted ? `/orders?text=${encodeURIComponent(wanted)}` : "/orders");
  };
  const found = list(t("orders_title"));
  const rest = more(() => read(true));
  const where = place(() => again());
  root.append(heading(t("orders_title")),
    el("form", { class: "toolbar", role: "search", on: { submit: search } },
      el("label", { class: "unseen", for: "order-text" }, t("order_text")), input,
      el("button", { type: "submit", class: "button" }, t("find"))),
    el("p", { class: "hint over" }, text ? t("orders_found", { text }) : t("orders_moved")), where.node, rest);

  let orders = [];
  let cursor;
  async function read(further = false) {
    const answer = await api.orders({ text, cursor: further ? cursor : undefined, signal });
    if (signal.aborted) return;
    // One that is found by its own number needs no list.
    if (!further && text && answer.items.length === 1 && answer.items[0].user_id !== text) {
      return go(`/orders/${encodeURIComponent(answer.items[0].order_id)}`, { replace: true });
    }
    orders = further ? [...orders, ...answer.items] : answer.items;
    cursor = answer.next;
    rest.hidden = !cursor;
    found.update(orders);
    where.show(orders.length > 0 ? found.node : nothing(text ? t("orders_none", { text }) : t("orders_none_yet")));
  }
  // A list that was read further stays as it is.
  const again = refresh(signal, async () => { if (orders.length <= 50) await read(); }, { onTrouble: (error) => where.trouble(error) });
  remember({ text });
}

export const list = (label) => table({
  label, testid: "orders", key: (order) => order.order_id,
  columns: [
    { title: t("order"), kind: "id", cell: (order) => orderLink(order.order_id) },
    { title: t("customer"), kind: "id", cell: (order) => order.user_id },
    { title: t("status"), cell: (order) => status(order.status) },
    { title: t("seat"), kind: "number spare", cell: (order) => order.seat_no ?? none() },
    { title: t("amount"), kind: "number", cell: (order) => sum(order.amount_fen) },
    { title: t("changed"), kind: "number spare", cell: (order) => ago(order.updated_at) },
  ],
});
