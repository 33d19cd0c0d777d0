// Dead letters in groups: by cause, which failed alike; by effect, what would come of them. Those with the
// most open money first.

import { el } from "../both/dom.js";
import { t } from "../both/language.js";
import { ago, alarm, count, effect, moment, none, quote, sum } from "./say.js";
import { table } from "./table.js";

/** `at(changes)`: the address of the letters with these changes. */
export function groupsTable(by, at) {
  const name = by === "effect"
    ? { title: t("letters_effect"), cell: (group) => el("a", { href: `#${at({ by: "", effect: group.group })}` }, effect(group.group)) }
    : { title: t("letters_error_class"), cell: (group) => el("a", { class: "id", href: `#${at({ by: "", cause: group.group })}` }, group.error_class) };
  const effects = {
    title: t("letters_effect"), cell: (group) => el("span", {}, Object.entries(group.effects).map(([one, n]) => [effect(one), ` ${n} `])),
  };
  return table({
    label: t("letters_title"), testid: "letter-groups", key: (group) => group.group,
    columns: [
      name,
      { title: t("letters"), kind: "number", cell: (group) => count(group.letters) },
      { title: t("nav_orders"), kind: "number", cell: (group) => count(group.orders) },
      { title: t("money"), kind: "number", cell: (group) => sum(group.money_fen) },
      { title: t("letters_open_money"), kind: "number", cell: (group) => group.open_fen > 0 ? alarm(sum(group.open_fen)) : sum(0) },
      { title: t("letters_deadline"), kind: "number", cell: (group) => group.next_deadline ? moment(group.next_deadline) : none() },
      { title: t("letters_oldest"), kind: "number", cell: (group) => ago(group.oldest) },
      ...(by === "cause" ? [effects] : []),
      { title: t("letters_pattern"), kind: "wide", cell: (group) => quote(group.pattern, { short: true }) },
    ],
  });
}
