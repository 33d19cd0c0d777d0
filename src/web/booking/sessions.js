// The first view: which sessions there are, by day, and how many seats each has left right now.

import { bookable, page } from "./catalogue.js";
import { el } from "../both/dom.js";
import { day, dayKey, money, nearness, time, zoneNote } from "./format.js";
import { count, t } from "../both/language.js";
import { notice, troubleLine } from "./notice.js";
import { repeat } from "../both/pace.js";
import { reminder } from "./reminder.js";

const EVERY = 3_000;

export function sessionsView({ root, signal, retitle }) {
  retitle(t("nav_sessions"));
  const list = el("div", { class: "days", "aria-busy": "true" }, skeleton());
  const trouble = troubleLine();
  const more = el("button", { type: "button", class: "button quiet wide", hidden: true }, t("more"));
  root.append(
    el("div", { class: "intro" },
      el("h1", { tabindex: -1 }, t("sessions_title")),
      el("p", { class: "lead" }, t("sessions_lead"))),
    reminder(signal), trouble.node, list, more);

  let pages = 1;
  let shown = "";
  let cards = new Map();

  async function read() {
    const sessions = [];
    let cursor;
    for (let n = 0; n < pages; n += 1) {
      const answer = await page({ cursor, signal });
      sessions.push(...answer.items);
      cursor = answer.next;
      if (!cursor) break;
    }
    more.hidden = !cursor;
    more.disabled = false;
    show(sessions);
  }

  function show(sessions) {
    const ids = sessions.map((session) => `${session.schedule_id} ${dayKey(session.starts_at)}`).join();
    if (ids !== shown || sessions.length === 0) {
      const focused = document.activeElement?.dataset?.scheduleId;
      cards = new Map(sessions.map((session) => [session.schedule_id, card(session)]));
      list.replaceChildren(...(sessions.length > 0 ? byDay(sessions, cards) : [nothing()]));
      if (focused) cards.get(focused)?.node.focus();
      shown = ids;
    }
    for (const session of sessions) cards.get(session.schedule_id).update(session);
    list.setAttribute("aria-busy", "false");
  }

  more.addEventListener("click", () => {
    pages += 1;
    more.disabled = true;
    read().catch(trouble.show);
  });
  repeat(read, {
    every: EVERY,
    signal,
    onTrouble(error) {
      trouble.show(error && shown !== "" ? error : null);
      if (error && shown === "") list.replaceChildren(notice(error, { onRetry: () => read().catch(() => {}) }));
    },
  });
}

function byDay(sessions, cards) {
  const days = new Map();
  for (const session of sessions) {
    const key = dayKey(session.starts_at);
    days.set(key, [...(days.get(key) ?? []), session]);
  }
  const zone = zoneNote();
  return [...days.values()].map((those) =>
    el("section", { class: "day" },
      el("h2", {}, nearness(those[0].starts_at) && el("strong", {}, nearness(those[0].starts_at)),
        day(those[0].starts_at), zone && el("small", {}, zone)),
      el("ul", {}, those.map((session) => el("li", {}, cards.get(session.schedule_id).node)))));
}

function card(session) {
  const left = el("span", { class: "card-left" });
  const gauge = el("progress", { class: "gauge", max: 1, "aria-hidden": "true" });
  const price = el("span", { class: "card-price" });
  const name = el("span", { class: "card-course" });
  const node = el("a", {
    class: "card",
    href: `#/schedules/${encodeURIComponent(session.schedule_id)}`,
    data: { testid: "session-card", scheduleId: session.schedule_id },
  },
    el("time", { class: "card-time", datetime: session.starts_at }, time(session.starts_at)),
    name, el("span", { class: "card-more" }, left, price, gauge));
  return {
    node,
    update(now) {
      name.textContent = now.course;
      price.textContent = money(now.price_fen);
      left.textContent = seatsLeft(now);
      node.dataset.available = now.available;
      node.classList.toggle("few", bookable(now) && isFew(now));
      node.classList.toggle("full", !bookable(now) || now.available <= 0);
      gauge.max = Math.max(1, now.capacity);
      gauge.value = now.capacity - now.available;
    },
  };
}

const isFew = ({ available, capacity }) => available > 0 && available <= Math.max(3, Math.floor(capacity / 10));

function seatsLeft(session) {
  if (!bookable(session)) return t("cancelled_session");
  if (session.available <= 0) return t("full");
  return isFew(session) ? t("left_few", { n: session.available }) : count("left", session.available);
}

const nothing = () =>
  el("div", { class: "empty" }, el("p", {}, t("sessions_none")), el("p", { class: "hint" }, t("sessions_none_hint")));

const skeleton = () => [
  el("p", { class: "unseen" }, t("loading")),
  ...[1, 2, 3].map(() => el("div", { class: "card bone", "aria-hidden": "true" })),
];
