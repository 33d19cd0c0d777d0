// What a customer who came too late can have instead, each one click away: free seats of the
// session, other sessions of the course. A click is a new wish with a key of its own.

import { el } from "../both/dom.js";
import { moment, money } from "./format.js";
import { begin } from "./intent.js";
import { count, t } from "../both/language.js";

const MOST_SEATS = 12;

/** `offer` as in the API: `{seats: [number], schedules: [session]}`; `session`: the one asked for. */
export function alternatives(offer, session, go) {
  const seats = offer?.seats ?? [];
  const others = offer?.schedules ?? [];
  const map = `#/schedules/${encodeURIComponent(session.schedule_id)}`;
  const choose = (wanted, seat) => {
    begin(wanted, seat);
    go("/booking");
  };
  const node = el("section", { class: "alternatives", data: { testid: "alternatives" } });
  if (seats.length + others.length === 0) node.append(el("p", { class: "hint" }, t("alternatives_none")));
  if (seats.length > 0) {
    node.append(
      el("h2", {}, t("alternatives_seats"), el("small", {}, t("alternatives_seats_hint"))),
      el("ul", { class: "offer-seats" }, seats.slice(0, MOST_SEATS).map((n) =>
        el("li", {}, el("button", {
          type: "button", class: "seat", "aria-label": t("book_seat", { n }),
          data: { alternativeSeat: n, state: "free" }, on: { click: () => choose(session, n) },
        }, String(n))))),
      el("a", { class: "link", href: map }, t("alternatives_map")));
  }
  if (others.length > 0) {
    node.append(
      el("h2", {}, t("alternatives_sessions")),
      el("ul", { class: "offer-sessions" }, others.map((other) =>
        el("li", {},
          el("span", { class: "offer-what" },
            el("strong", {}, moment(other.starts_at)),
            el("span", {}, `${other.course} · ${money(other.price_fen)} · ${count("left", other.available)}`)),
          el("button", {
            type: "button", class: "button quiet", data: { alternativeSchedule: other.schedule_id },
            on: { click: () => choose(other, null) },
          }, t("book_session"))))));
  }
  return node;
}
