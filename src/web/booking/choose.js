// One session: choose a seat, or any, and book. What is free is asked for every few seconds, so a
// seat that somebody else takes is gone here before it can be clicked in vain.

import * as api from "./api.js";
import { bookable, find } from "./catalogue.js";
import { announce, el } from "../both/dom.js";
import { moment, money, nearness, zoneNote } from "./format.js";
import { begin } from "./intent.js";
import { t } from "../both/language.js";
import { notice, troubleLine } from "./notice.js";
import { repeat } from "../both/pace.js";
import { seatMap } from "./seats.js";
import { waitlist } from "./waitlist.js";

const EVERY = 3_000;
const choices = new Map(); // by session, so that a change of language does not forget the seat

export async function chooseView({ root, signal, id, go, retitle, reload }) {
  const back = el("a", { class: "back", href: "#/" }, t("back"));
  root.append(back, el("p", { class: "hint", role: "status" }, t("loading")));
  let session;
  try {
    session = await find(id);
  } catch (error) {
    if (!signal.aborted) root.replaceChildren(back, notice(error, { onRetry: reload }));
    return;
  }
  if (signal.aborted) return;
  if (!session) {
    root.replaceChildren(back, el("div", { class: "empty" }, el("h1", { tabindex: -1 }, t("session_gone"))));
    return;
  }

  retitle(session.course);
  const trouble = troubleLine();
  const counted = el("p", { class: "counted" });
  const lost = el("p", { class: "lost", role: "alert", hidden: true });
  const bar = bookBar(session, book);
  const any = el("button", {
    type: "button", class: "any", data: { testid: "any-seat" }, on: { click: () => choose("any") },
  }, el("strong", {}, t("any_seat")), el("span", {}, t("any_seat_hint")));
  const waiting = waitlist(id, { signal, retitle });
  const map = seatMap({ capacity: session.capacity, onChoose: choose });
  let choice = choices.get(id) ?? "any";
  let left = null;

  root.replaceChildren(back,
    el("div", { class: "session" },
      el("div", { class: "session-head" },
        el("h1", { tabindex: -1 }, session.course),
        el("p", { class: "when" }, nearness(session.starts_at) && el("strong", {}, nearness(session.starts_at)),
          el("time", { datetime: session.starts_at }, moment(session.starts_at)),
          zoneNote() && el("small", {}, zoneNote()))),
      waiting.node,
      el("section", { class: "panel", "aria-labelledby": "seat-title" },
        el("div", { class: "panel-head" }, el("h2", { id: "seat-title" }, t("seat_title")), counted),
        trouble.node, lost, any, map.node),
      bar.node));
  choose(choice);
  repeat(read, { every: EVERY, signal, onTrouble: trouble.show });

  async function read() {
    const now = await api.availability(id, signal);
    const free = new Set(now.seats_free);
    left = bookable(session) ? now.available : 0;
    counted.textContent = t("of_capacity", { capacity: now.capacity, n: now.available });
    any.disabled = left <= 0;
    waiting.update(bookable(session) && left <= 0);
    any.hidden = bar.node.hidden = !waiting.node.hidden;
    map.update(free);
    if (typeof choice === "number" && !free.has(choice)) {
      lost.textContent = t("seat_lost", { n: choice });
      lost.hidden = false;
      choose(null);
    } else {
      bar.update(choice, left);
    }
  }

  function choose(next) {
    if (next !== null) lost.hidden = true;
    if (next !== choice && typeof next === "number") announce(t("seat_n", { n: next }));
    choice = next;
    choices.set(id, next);
    any.setAttribute("aria-pressed", String(next === "any"));
    map.choose(typeof next === "number" ? next : null);
    bar.update(next, left);
  }

  function book() {
    choices.delete(id);
    begin(session, typeof choice === "number" ? choice : null);
    go("/booking");
  }
}

function bookBar(session, onBook) {
  const what = el("strong", { class: "bar-choice" });
  const hint = el("p", { class: "hint" }, t("book_hint"));
  const button = el("button", {
    type: "button", class: "button book", data: { testid: "book" }, on: { click: onBook },
  });
  return {
    node: el("aside", { class: "book-bar", "aria-label": t("your_choice") },
      el("div", { class: "bar-what" }, what, el("span", { class: "bar-price" }, money(session.price_fen))),
      button,
      hint),
    update(choice, left) {
      const full = left !== null && left <= 0;
      const none = t(bookable(session) ? "full" : "cancelled_session");
      const chosen = { any: t("any_seat"), null: t("nothing_chosen") }[choice] ?? t("seat_n", { n: choice });
      what.textContent = full ? none : chosen;
      button.textContent = full ? none : t("book");
      button.disabled = full || choice === null;
      hint.hidden = full;
    },
  };
}
