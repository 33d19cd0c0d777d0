// What needs a person: cases with the money at stake and what can be done, and decisions that wait for a
// second operator.

import { el } from "../both/dom.js";
import { user } from "../both/identity.js";
import { money } from "../both/format.js";
import { t } from "../both/language.js";
import * as api from "./api.js";
import { ask, deedButton } from "./deed.js";
import { refresh } from "./live.js";
import { ago, chip, facts, heading, moment, more, orderLink, prose, quote, raw, span } from "./say.js";
import { nothing, place } from "./trouble.js";

export function casesView({ root, signal, retitle, query }) {
  retitle(t("nav_cases"));
  const status = query.get("status") === "closed" ? "closed" : "open";
  const tab = (one) => el("a", {
    class: "tab", href: one === "open" ? "#/cases" : "#/cases?status=closed", "aria-current": status === one ? "true" : null,
  }, t(`cases_${one}`));
  const rest = more(() => read(true));
  const where = place(() => again());
  const waiting = el("div", {});
  const list = el("ul", { class: "cases" });
  root.append(heading(t("cases_title"), t("cases_lead")), waiting,
    el("nav", { class: "tabs", "aria-label": t("cases_which") }, tab("open"), tab("closed")), where.node, rest);

  let cases = [];
  let cursor;
  let shown = "";
  async function read(further = false) {
    const answer = await api.cases({ status, cursor: further ? cursor : undefined, signal });
    const proposed = status === "open" ? (await api.overrides({ status: "proposed", signal })).items : [];
    if (signal.aborted) return;
    cases = further ? [...cases, ...answer.items] : answer.items;
    cursor = answer.next;
    rest.hidden = !cursor;
    // Drawn anew only when something changed: a reader is not disturbed by the beat.
    const key = JSON.stringify([cases.map((one) => [one.case_id, one.status]), proposed.map((one) => one.override_id)]);
    if (key !== shown) {
      shown = key;
      waiting.replaceChildren(...secondWords(proposed));
      list.replaceChildren(...cases.map((one) => card(one, again)));
    }
    where.show(cases.length > 0 ? list : nothing(t(`cases_none_${status}`)));
  }
  const again = refresh(signal, async () => { if (cases.length <= 50) await read(); }, { onTrouble: (error) => where.trouble(error) });

  function secondWords(proposed) {
    if (proposed.length === 0) return [];
    return [el("h2", {}, t("second_word")), el("ul", { class: "cases" }, proposed.map((one) => override(one, again)))];
  }
}

/** How the refund ends that the case is about. */
const refundEnd = () => [
  { name: "ended", label: t("refund_ends"), kind: "choice", required: true, options: [
    ["", t("refund_ends_choose")], ["paid_by_hand", t("refund_ends_paid_by_hand")], ["not_owed", t("refund_ends_not_owed")],
  ] },
  { name: "receipt", label: t("refund_receipt"), only: ({ ended }) => ended === "paid_by_hand" },
];

/** One case, as its own list and its order's page show it. */
export const card = (one, onDone, { ofOrder = false } = {}) => el("li", {
  class: "card case", data: { testid: "case", kind: one.kind, status: one.status },
},
  el("div", { class: "case-head" },
    el("h3", {}, t(`case_${one.kind}`)), one.money_fen > 0 && el("strong", { class: "case-money" }, money(one.money_fen)),
    el("span", { class: "hint" }, one.status === "open" ? span(one.age_seconds) : t("case_was_open", { span: span(one.age_seconds) }))),
  one.status === "open" && el("p", { class: "suggestion", lang: "en" }, prose(one.suggestion)),
  facts([
    [t("order"), !ofOrder && one.order_id && orderLink(one.order_id)],
    [t("case_subject"), quote(one.subject, { kind: "id" })],
    [t("case_opened"), moment(one.opened_at)],
    [t("case_closed"), one.closed_at && moment(one.closed_at)],
    [t("case_closed_by"), one.closed_by],
    [t("case_resolution"), one.resolution && quote(one.resolution)],
    [t("case_refund"), one.owed_refund_id && quote(one.owed_refund_id, { kind: "id" })],
    [t("case_earlier"), one.earlier?.length > 0 && one.earlier.map(({ closed_by: by, resolution }) => [by, resolution].filter(Boolean).join(": ")).join(" · ")],
  ]),
  Object.keys(one.details ?? {}).length > 0 && el("details", {}, el("summary", {}, t("details")),
    raw(one.details)),
  one.status === "open" && el("div", { class: "actions" }, deedButton(t("case_close"), () => ask({
    title: t("case_close"), lead: one.owed_refund_id ? t("case_close_refund_lead") : t("case_close_lead"), confirm: t("case_close"),
    fields: [...(one.owed_refund_id ? refundEnd() : []),
      { name: "resolution", label: t("case_resolution"), kind: "long", required: true }],
    act: async (said) => { await api.closeCase(one.case_id, said); onDone(); },
  }), { testid: "close-case" })));

/** A decision, and the second word on it when it waits for one. */
export function override(one, onDone, { ofOrder = false } = {}) {
  const turn = (words, lead, act, danger) => deedButton(words, () => ask({
    title: words, lead, confirm: words, danger, act: async () => { await act(one.override_id); onDone(); },
  }), { danger });
  const mine = one.proposed_by === user();
  return el("li", { class: "card case", data: { testid: "override", status: one.status } },
    el("div", { class: "case-head" }, el("h3", {}, t(`action_${one.action}`)), el("strong", { class: "case-money" }, money(one.money_fen)),
      chip(t(`override_${one.status}`), OVERRIDE_TONES[one.status])),
    el("p", {}, quote(one.reason)),
    facts([
      [t("order"), !ofOrder && orderLink(one.order_id)],
      [t("override_by"), one.proposed_by],
      [t("override_at"), ago(one.proposed_at)],
      [t("override_decided_by"), one.decided_by],
      [t("override_outcome"), one.outcome && el("span", { lang: "en" }, one.outcome)],
      [t("override_undo"), one.status === "done" ? el("span", { lang: "en" }, prose(one.undo)) : null],
    ]),
    one.status === "proposed" && el("div", { class: "actions" },
      !mine && turn(t("override_approve"), t("override_approve_lead"), api.approve),
      turn(t("override_withdraw"), t("override_withdraw_lead"), api.withdraw, true),
      mine && el("span", { class: "hint" }, t("override_mine"))));
}

const OVERRIDE_TONES = { proposed: "wait", approved: "wait", done: "good", refused: "bad", withdrawn: "" };
