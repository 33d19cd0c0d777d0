// Sessions and how full each is.

import { el } from "../both/dom.js";
import { moment } from "../both/format.js";
import { t } from "../both/language.js";
import * as api from "./api.js";
import { deedButton } from "./deed.js";
import { refresh } from "./live.js";
import { chip, count, heading, more, sum } from "./say.js";
import { addSession } from "./session_deeds.js";
import { table } from "./table.js";
import { nothing, place } from "./trouble.js";

export function sessionsView({ root, signal, go, retitle, query, remember }) {
  retitle(t("nav_sessions"));
  let past = query.get("when") === "past";
  const tab = (words, isPast) => el("button", {
    type: "button", class: "tab", "aria-pressed": String(past === isPast), on: { click: () => turn(isPast) },
  }, t(words));
  const tabs = el("div", { class: "tabs", role: "group", "aria-label": t("sessions_which") });
  const rows = list();
  const rest = more(() => read(true));
  const where = place(() => again());
  const add = deedButton(t("session_add"), () => addSession(({ schedule_id: id }) => go(`/sessions/${encodeURIComponent(id)}`)), { testid: "add-session" });
  root.append(heading(t("sessions_title")), el("div", { class: "toolbar" }, tabs, add && el("div", { class: "aside" }, add)), where.node, rest);

  let sessions = [];
  let cursor;
  function turn(isPast) {
    past = isPast;
    remember({ when: past ? "past" : "" });
    showTabs();
    again();
  }
  const showTabs = () => tabs.replaceChildren(tab("sessions_to_come", false), tab("sessions_past", true));
  async function read(further = false) {
    const asked = past;
    const today = new Date().toISOString();
    const range = past ? { to: today } : { from: today };
    const answer = await api.sessions({ ...range, cursor: further ? cursor : undefined, signal });
    if (signal.aborted || asked !== past) return;
    sessions = further ? [...sessions, ...answer.items] : answer.items;
    cursor = answer.next;
    rest.hidden = !cursor;
    rows.update(sessions);
    where.show(sessions.length > 0 ? rows.node : nothing(t(past ? "sessions_none_past" : "sessions_none")));
  }
  showTabs();
  const again = refresh(signal, async () => { if (sessions.length <= 50) await read(); }, { onTrouble: (error) => where.trouble(error) });
}

const list = () => table({
  label: t("sessions_title"), testid: "sessions", key: (session) => session.schedule_id,
  columns: [
    { title: t("course"), cell: (session) => el("a", { href: `#/sessions/${encodeURIComponent(session.schedule_id)}` }, session.course) },
    { title: t("starts"), kind: "time", cell: (session) => moment(session.starts_at) },
    { title: "", cell: (session) => session.status === "open" ? "" : chip(t("session_cancelled")) },
    { title: t("price"), kind: "number spare", cell: (session) => sum(session.price_fen) },
    { title: t("capacity"), kind: "number", cell: (session) => count(session.capacity) },
    { title: t("booked"), kind: "number", cell: (session) => count(session.confirmed) },
    { title: t("held"), kind: "number spare", cell: (session) => count(session.held) },
    { title: t("free"), kind: "number", cell: (session) => count(session.available) },
    { title: t("waiting"), kind: "number spare", cell: (session) => count(session.waiting) },
    { title: t("fullness"), kind: "spare", cell: (session) => fullness(session) },
  ],
});

/** Booked, held and free as lengths of one bar. */
export function fullness({ capacity, confirmed, held }) {
  return el("meter", { class: "fullness", min: 0, max: Math.max(1, capacity), value: confirmed + held, "aria-hidden": "true" });
}
