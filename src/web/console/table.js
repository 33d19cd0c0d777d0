// Tables: numbers to the right, ids in one width, the first column (after a tick) names the row. A new reading goes into
// the same rows, so that neither focus nor place is lost.

import { el } from "../both/dom.js";

/**
 * `columns`: `[{title, kind, hint, cell(row)}]`, `kind` one of `number`, `id`, `time` or none; with `spare`, a phone
 * goes without it.
 * `key(row)` tells rows apart; `tone(row)` may colour one. `{node, update(rows)}`
 */
export function table({ label, columns, key, tone = () => null, testid }) {
  const body = el("tbody");
  const rows = new Map();
  const head = el("thead", {}, el("tr", {}, columns.map(({ title, kind, hint }) =>
    el("th", { scope: "col", class: kind, title: hint }, title))));
  return {
    node: el("div", { class: "table-room", role: "region", "aria-label": label, tabindex: 0 },
      el("table", { data: { testid } }, head, body)),
    update(readings) {
      const keys = new Set(readings.map(key));
      for (const [known, row] of rows) if (!keys.has(known)) { row.node.remove(); rows.delete(known); }
      readings.forEach((reading, at) => {
        const id = key(reading);
        if (!rows.has(id)) rows.set(id, emptyRow(columns, id));
        const row = rows.get(id);
        row.fill(reading, tone(reading));
        if (body.children[at] !== row.node) body.insertBefore(row.node, body.children[at] ?? null);
      });
    },
  };
}

function emptyRow(columns, id) {
  const name = columns.findIndex(({ kind }) => kind !== "tick");
  const cells = columns.map(({ kind }, at) => el(at === name ? "th" : "td", { scope: at === name ? "row" : null, class: kind }));
  const node = el("tr", { data: { key: id } }, cells);
  const last = [];
  return {
    node,
    fill(reading, tone) {
      node.dataset.tone = tone ?? "";
      columns.forEach(({ cell }, at) => {
        const next = el("span", {}, cell(reading));
        if (last[at]?.isEqualNode(next)) return;
        last[at] = next.cloneNode(true);
        const focused = cells[at].contains(document.activeElement);
        cells[at].replaceChildren(...next.childNodes);
        if (focused) cells[at].querySelector("a, button")?.focus();
      });
    },
  };
}
