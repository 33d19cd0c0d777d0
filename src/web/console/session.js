// Who sits where in one session: a map of its seats, and the orders that have them; how far its cancellation is.
// A large room is shown in parts.

import { el } from "../both/dom.js";
import { moment, money, time } from "../both/format.js";
import { t } from "../both/language.js";
import * as api from "./api.js";
import { deedButton } from "./deed.js";
import { refresh } from "./live.js";
import { chip, count, facts, heading, none, orderLink, status, sum } from "./say.js";
import { cancelOn, cancelSession } from "./session_deeds.js";
import { table } from "./table.js";
import { nothing, place } from "./trouble.js";

const PART = 500;

export function sessionView({ root, signal, retitle, query, remember, id }) {
  retitle(t("session"));
  let first = Number(query.get("first")) || 1;
  const title = heading(t("session"));
  const where = place(() => again());
  const takers = list();
  root.append(el("a", { class: "back", href: "#/sessions" }, t("nav_sessions")), title, where.node);

  const again = refresh(signal, async () => {
    const session = await api.session(id, signal);
    if (signal.aborted) return;
    retitle(session.course);
    title.querySelector("h1").textContent = session.course;
    show(session);
  }, { onTrouble: (error) => where.trouble(error) });

  function show(session) {
    const part = session.seats.slice(first - 1, first - 1 + PART);
    const taken = part.filter((seat) => seat.order_id);
    takers.update(taken);
    const turn = (to) => { first = to; remember({ first: to > 1 ? to : "" }); show(session); };
    where.show(deeds(session, again), progress(session), summary(session), legend(), map(part), parts(first, session, turn),
      el("h2", {}, t("seats_taken")), taken.length > 0 ? takers.node : nothing(t("seats_none_taken")));
  }
}

function deeds(session, onDone) {
  const left = session.cancellation && session.cancellation.bookings + session.cancellation.unpaid;
  return el("div", { class: "actions deeds" },
    session.status === "open" && deedButton(t("session_cancel"), () => cancelSession(session, onDone), { danger: true, testid: "cancel-session" }),
    left > 0 && deedButton(t("session_cancel_on"), () => cancelOn(session, onDone), { testid: "cancel-on" }));
}

/** How far a cancellation is: what is asked for, what WeChat has done. */
function progress({ cancellation: now }) {
  if (!now) return null;
  const left = now.bookings + now.unpaid;
  const done = now.refunds_succeeded + now.refunds_abnormal;
  const state = left > 0 ? "asking" : now.refunds_open > 0 || !now.finished_at ? "refunding" : "over";
  return el("section", { class: "card cancellation", data: { testid: "cancellation", state } },
    el("p", { class: "replay-state" }, chip(t(`cancellation_${state}`), state === "over" ? "good" : "wait"),
      el("span", {}, t("cancellation_given_back", { sum: money(now.refunds_succeeded_fen) }))),
    el("progress", { class: "gauge", max: Math.max(1, left + now.refunds_open + done), value: left + now.refunds_open + done > 0 ? done : 1, "aria-label": t("cancellation_progress") }),
    facts([
      [t("cancellation_by"), now.requested_by ? [now.requested_by, " · ", moment(now.requested_at)] : t("unknown")],
      [t("cancellation_reason"), now.reason ?? t("unknown")],
      [t("cancellation_to_refund"), [count(now.bookings), " · ", sum(now.bookings_fen)]],
      [t("cancellation_to_close"), count(now.unpaid)],
      [t("cancellation_open"), [count(now.refunds_open), " · ", sum(now.refunds_open_fen)]],
      [t("cancellation_done"), [count(now.refunds_succeeded), " · ", sum(now.refunds_succeeded_fen)]],
      [t("cancellation_abnormal"), now.refunds_abnormal > 0
        ? el("a", { class: "alarm", href: "#/cases" }, `${now.refunds_abnormal} · ${money(now.refunds_abnormal_fen)}`) : count(0)],
    ]));
}

function summary(session) {
  const of = (state) => session.seats.filter((seat) => seat.state === state).length;
  return el("section", { class: "card" }, facts([
    [t("starts"), moment(session.starts_at)],
    [t("price"), money(session.price_fen)],
    [t("capacity"), count(session.capacity)],
    [t("booked"), count(of("confirmed"))],
    [t("held"), count(of("held"))],
    [t("free"), count(of("free"))],
    [t("waiting"), count(session.waiting)],
    [t("state"), session.status === "open" ? t("session_open") : t("session_cancelled")],
  ]));
}

const STATES = { free: "free", held: "held", confirmed: "booked" };

const legend = () => el("ul", { class: "legend" }, Object.entries(STATES).map(([state, words]) =>
  el("li", {}, el("span", { class: "seat", data: { state }, "aria-hidden": "true" }), t(words))));

const map = (seats) => el("ol", { class: "seats", "aria-label": t("seats_map") }, seats.map(({ seat_no: n, state, order_id }) => {
  const label = t("seat_state", { n, state: t(STATES[state]) });
  const shared = { class: "seat", data: { state, seatNo: n }, title: label, "aria-label": label };
  return el("li", {}, order_id ? el("a", { ...shared, href: `#/orders/${encodeURIComponent(order_id)}` }, n) : el("span", shared, n));
}));

function parts(first, { capacity }, onTurn) {
  if (capacity <= PART) return el("div", {});
  const last = Math.min(capacity, first + PART - 1);
  const button = (words, to) => el("button", { type: "button", class: "button quiet", disabled: to < 1 || to > capacity, on: { click: () => onTurn(to) } }, t(words));
  return el("div", { class: "actions" }, button("seats_before", first - PART),
    el("span", { class: "hint" }, t("seats_part", { first, last, capacity })), button("seats_after", first + PART));
}

const list = () => table({
  label: t("seats_taken"), testid: "seats", key: (seat) => seat.order_id,
  columns: [
    { title: t("seat"), kind: "number", cell: (seat) => seat.seat_no },
    { title: t("order"), kind: "id", cell: (seat) => orderLink(seat.order_id) },
    { title: t("status"), cell: (seat) => status(seat.order_status) },
    { title: t("hold_until"), kind: "number", cell: (seat) => seat.held_until ? time(seat.held_until) : none() },
  ],
});
