// Our books beside WeChat's bill: a calendar of the days that were compared. A day that is not there was never compared.

import { el } from "../both/dom.js";
import { format, money } from "../both/format.js";
import { t } from "../both/language.js";
import * as api from "./api.js";
import { refresh } from "./live.js";
import { chip, count, heading, more, sum } from "./say.js";
import { table } from "./table.js";
import { nothing, place } from "./trouble.js";

export const TONES = { balanced: "good", differs: "bad", no_trade: "", unfinished: "wait" };

/** A day's standing in a small frame. */
export const standing = (day) => chip(t(`day_${day.status}`), TONES[day.status] ?? "");

export const dayLink = (date) => `#/books/${encodeURIComponent(date)}`;

export function booksView({ root, signal, retitle }) {
  retitle(t("nav_books"));
  const rows = list();
  const months = el("div", { class: "months", data: { testid: "calendar" } });
  const rest = more(() => read(true));
  const where = place(() => again());
  root.append(heading(t("books_title"), t("books_lead")), where.node, rest);

  let days = [];
  let cursor;
  async function read(further = false) {
    const answer = await api.bookDays({ cursor: further ? cursor : undefined, signal });
    if (signal.aborted) return;
    days = further ? [...days, ...answer.items] : answer.items;
    cursor = answer.next;
    rest.hidden = !cursor;
    months.replaceChildren(...byMonth(days));
    rows.update(days);
    if (days.length > 0) where.show(months, legend(), rows.node);
    else where.show(nothing(t("books_none")));
  }
  const again = refresh(signal, async () => { if (days.length <= 50) await read(); }, { every: 30_000, onTrouble: (error) => where.trouble(error) });
}

function byMonth(days) {
  const known = new Map(days.map((day) => [day.date, day]));
  return [...new Set(days.map(({ date }) => date.slice(0, 7)))].map((month) => calendar(month, known));
}

/** A month as a grid, weeks beginning on Monday. Noon keeps a date the same day wherever the device is. */
function calendar(month, known) {
  const first = new Date(`${month}-01T12:00:00+08:00`);
  const length = new Date(Date.UTC(first.getUTCFullYear(), first.getUTCMonth() + 1, 0)).getUTCDate();
  const title = format(first, { year: "numeric", month: "long" });
  const cells = Array.from({ length }, (_, at) => {
    const date = `${month}-${String(at + 1).padStart(2, "0")}`;
    const day = known.get(date);
    const style = at === 0 ? { "data-weekday": (first.getUTCDay() + 6) % 7 } : {};
    const label = `${date}: ${t(day ? `day_${day.status}` : "day_unknown")}`;
    return el("li", style, day
      ? el("a", { class: "day", href: dayLink(date), title: label, "aria-label": label, data: { status: day.status } }, at + 1)
      : el("span", { class: "day", title: label, "aria-label": label }, at + 1));
  });
  return el("section", {}, el("h2", {}, title), weekdays(), el("ol", { class: "calendar" }, cells));
}

/** Beginning with some Monday. */
const weekdays = () => el("div", { class: "calendar", "aria-hidden": "true" }, Array.from({ length: 7 }, (_, at) =>
  el("span", { class: "weekday" }, format(Date.UTC(2024, 0, 1 + at, 4), { weekday: "narrow" }))));

const legend = () => el("ul", { class: "legend day-legend", "aria-hidden": "true" },
  ["balanced", "differs", "unfinished", "no_trade"].map((status) =>
    el("li", {}, el("span", { class: "day", data: { status } }), t(`day_${status}`))));

const list = () => table({
  label: t("books_title"), testid: "days", key: (day) => day.date,
  tone: (day) => day.cases > 0 ? "bad" : null,
  columns: [
    { title: t("day"), kind: "id", cell: (day) => el("a", { class: "id", href: dayLink(day.date) }, day.date) },
    { title: t("state"), cell: standing },
    { title: t("books_paid_bill"), kind: "number", cell: (day) => sum(day.bill.paid_fen) },
    { title: t("books_paid_ours"), kind: "number", cell: (day) => sum(day.books.paid_fen) },
    { title: t("books_refunded_bill"), kind: "number", cell: (day) => sum(day.bill.refunded_fen) },
    { title: t("books_refunded_ours"), kind: "number", cell: (day) => sum(day.books.refunded_fen) },
    { title: t("books_standing"), kind: "number", cell: (day) => count(day.standing) },
    { title: t("books_cases"), kind: "number", cell: (day) => count(day.cases) },
  ],
});

/** Both sides of a sum: `¥200.00 / ¥200.01`. */
export const bothSums = (bill, books) => [bill, books].map((fen) => (fen === null ? "–" : money(fen))).join(" / ");
