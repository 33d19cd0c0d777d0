// Who sits where in one session: a map of its seats, and the orders that have them.

import { el } from "../both/dom.js";
import { moment, money, time } from "../both/format.js";
import { t } from "../both/language.js";
import * as api from "./api.js";
import { refresh } from "./live.js";
import { count, facts, heading, none, orderLink, status } from "./say.js";
import { table } from "./table.js";
import { nothing, place } from "./trouble.js";

export function sessionView({ root, signal, retitle, query, remember, id }) {
  retitle(t("session"));
  let first = Number(query.get("first")) || 1;
  const title = heading(t("session"));
  const where = place(() => again());
  const takers = list();
  root.append(el("a", { class: "back", href: "#/sessions" }, t("nav_sessions")), title, where.node);

  const again = refresh(signal, async () => {
    const asked = first;
    const seating = await api.seats(id, asked, signal);
    if (signal.aborted || asked !== first) return;
    retitle(seating.course);
    title.querySelector("h1").textContent = seating.course;
    takers.update(seating.items);
    where.show(summary(seating), legend(), map(seating), parts(seating, (next) => { first = next; remember({ first: next > 1 ? next : "" }); again(); }),
      el("h2", {}, t("seats_taken")), seating.items.length > 0 ? takers.node : nothing(t("seats_none_taken")));
  }, { onTrouble: (error) => where.trouble(error) });
}

const summary = (seating) => el("section", { class: "card" }, facts([
  [t("starts"), moment(seating.starts_at)],
  [t("price"), money(seating.price_fen)],
  [t("capacity"), count(seating.capacity)],
  [t("booked"), count(seating.confirmed)],
  [t("held"), count(seating.held)],
  [t("free"), count(seating.available)],
  [t("waiting"), count(seating.waiting)],
  [t("state"), seating.status === "open" ? t("session_open") : t("session_cancelled")],
]));

const legend = () => el("ul", { class: "legend" }, ["free", "held", "booked"].map((state) =>
  el("li", {}, el("span", { class: "seat", data: { state }, "aria-hidden": "true" }), t(state))));

function map({ first, last, items }) {
  const taken = new Map(items.map((seat) => [seat.seat_no, seat]));
  const numbers = Array.from({ length: Math.max(0, last - first + 1) }, (_, n) => first + n);
  return el("ol", { class: "seats", "aria-label": t("seats_map") }, numbers.map((n) => {
    const seat = taken.get(n);
    const state = seat ? (seat.held_until ? "held" : "booked") : "free";
    const label = t("seat_state", { n, state: t(state) });
    return el("li", {}, seat
      ? el("a", { class: "seat", data: { state, seatNo: n }, href: `#/orders/${encodeURIComponent(seat.order_id)}`, title: `${label} · ${seat.user_id}`, "aria-label": label }, n)
      : el("span", { class: "seat", data: { state, seatNo: n }, title: label, "aria-label": label }, n));
  }));
}

function parts({ first, last, capacity, next }, onTurn) {
  if (capacity <= last - first + 1) return el("div", {});
  const button = (words, to) => el("button", { type: "button", class: "button quiet", disabled: to === null, on: { click: () => onTurn(to) } }, t(words));
  return el("div", { class: "actions" }, button("seats_before", first > 1 ? Math.max(1, first - 500) : null),
    el("span", { class: "hint" }, t("seats_part", { first, last, capacity })), button("seats_after", next));
}

const list = () => table({
  label: t("seats_taken"), testid: "seats", key: (seat) => seat.order_id,
  columns: [
    { title: t("seat"), kind: "number", cell: (seat) => seat.seat_no },
    { title: t("order"), kind: "id", cell: (seat) => orderLink(seat.order_id) },
    { title: t("customer"), kind: "id", cell: (seat) => seat.user_id },
    { title: t("status"), cell: (seat) => status(seat.status) },
    { title: t("hold_until"), kind: "number", cell: (seat) => seat.held_until ? time(seat.held_until) : none() },
  ],
});
