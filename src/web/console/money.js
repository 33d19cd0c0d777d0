// Money in doubt: what WeChat took and what is, at this moment, neither a seat's, nor back, nor a case's.

import { el } from "../both/dom.js";
import { money } from "../both/format.js";
import { count, t } from "../both/language.js";
import * as api from "./api.js";
import { refresh } from "./live.js";
import { ago, chip, heading, more, none, orderLink, quote, status, sum } from "./say.js";
import { table } from "./table.js";
import { nothing, place } from "./trouble.js";

export function moneyView({ root, signal, retitle }) {
  retitle(t("nav_money"));
  const rows = list();
  const total = el("p", { class: "total", data: { testid: "doubt-total" } });
  const rest = more(() => read(true));
  const where = place(() => again());
  root.append(heading(t("money_title"), t("money_lead")), where.node, rest);

  let doubts = [];
  let cursor;
  async function read(further = false) {
    const answer = await api.moneyInDoubt({ cursor: further ? cursor : undefined, signal });
    if (signal.aborted) return;
    doubts = further ? [...doubts, ...answer.items] : answer.items;
    cursor = answer.next;
    rest.hidden = !cursor;
    total.replaceChildren(el("strong", {}, money(answer.total.money_fen)), " ", count("tile_orders", answer.total.orders));
    rows.update(doubts);
    if (doubts.length > 0) where.show(total, rows.node);
    else where.show(nothing(t("money_none")));
  }
  const again = refresh(signal, async () => { if (doubts.length <= 50) await read(); }, { onTrouble: (error) => where.trouble(error) });
}

const list = () => table({
  label: t("money_title"), testid: "doubt", key: (doubt) => doubt.order_id,
  columns: [
    { title: t("order"), kind: "id", cell: (doubt) => orderLink(doubt.order_id) },
    { title: t("customer"), kind: "id spare", cell: (doubt) => doubt.user_id },
    { title: t("status"), cell: (doubt) => status(doubt.order_status) },
    { title: t("money"), kind: "number", cell: (doubt) => sum(doubt.money_fen) },
    { title: t("doubt_since"), kind: "number", cell: (doubt) => ago(doubt.since) },
    { title: t("refund"), cell: (doubt) => doubt.refund_status
      ? chip(t(`refund_${doubt.refund_status}`), "wait")
      : chip(t("refund_none"), "bad") },
    { title: t("doubt_error"), cell: (doubt) => doubt.error ? quote(doubt.error) : none() },
  ],
});
