// One day of WeChat's bill beside ours: the sums, and every fact that differs or did.

import { el } from "../both/dom.js";
import { t } from "../both/language.js";
import * as api from "./api.js";
import { bothSums, standing } from "./books.js";
import { refresh } from "./live.js";
import { ago, chip, count, facts, heading, moment, more, none, orderLink, quote } from "./say.js";
import { table } from "./table.js";
import { nothing, place } from "./trouble.js";

export function bookDayView({ root, signal, retitle, id }) {
  retitle(id);
  const rows = list();
  const rest = more(() => read(true));
  const where = place(() => again());
  root.append(el("a", { class: "back", href: "#/books" }, t("nav_books")), heading(id, t("day_lead")), where.node, rest);

  let found = [];
  let cursor;
  async function read(further = false) {
    const day = await api.bookDay({ date: id, cursor: further ? cursor : undefined, signal });
    if (signal.aborted) return;
    found = further ? [...found, ...day.items] : day.items;
    cursor = day.next;
    rest.hidden = !cursor;
    rows.update(found);
    where.show(summary(day), el("h2", {}, t("books_differences")), found.length > 0 ? rows.node : nothing(t("day_agrees")));
  }
  const again = refresh(signal, async () => { if (found.length <= 50) await read(); }, { every: 30_000, onTrouble: (error) => where.trouble(error) });
}

const summary = ({ bill, books, ...day }) => el("section", { class: "card" }, facts([
  [t("state"), standing(day)],
  [t("books_checked"), day.checked_at ? moment(day.checked_at) : none()],
  [t("books_payments"), [count(bill.payments), " / ", count(books.payments)]],
  [t("books_paid"), bothSums(bill.paid_fen, books.paid_fen)],
  [t("books_refunds"), [count(bill.refunds), " / ", count(books.refunds)]],
  [t("books_refunded"), bothSums(bill.refunded_fen, books.refunded_fen)],
  [t("doubt_error"), day.error && quote(day.error)],
]));

const list = () => table({
  label: t("books_differences"), testid: "differences", key: (fact) => `${fact.kind} ${fact.number}`,
  tone: (fact) => fact.remedy === "case" && !fact.settled_at ? "bad" : null,
  columns: [
    { title: t("books_difference"), kind: "id", cell: (fact) => fact.kind },
    { title: t("number"), kind: "id", cell: (fact) => quote(fact.number) },
    { title: t("order"), kind: "id", cell: (fact) => orderLink(fact.order_id) },
    { title: t("books_sums"), kind: "number", cell: (fact) => bothSums(fact.bill_fen, fact.books_fen) },
    { title: t("books_states"), cell: (fact) => [fact.bill_state, fact.books_state].map((state) => state ?? "–").join(" / ") },
    { title: t("state"), cell: (fact) => fact.settled_at
      ? chip(t("books_settled"), "good")
      : chip(t(`remedy_${fact.remedy}`), fact.remedy === "case" ? "bad" : "wait") },
    { title: t("found"), kind: "number", cell: (fact) => ago(fact.found_at) },
  ],
});
