// One order's whole story, from one page: why it is as it is, where its money is, what it waits for, what
// comes next by itself, how it could end otherwise, and everything that happened.

import { el } from "../both/dom.js";
import { money } from "../both/format.js";
import { newKey } from "../both/key.js";
import { t } from "../both/language.js";
import * as api from "./api.js";
import { card, override } from "./cases.js";
import { ask, deedButton } from "./deed.js";
import { refresh } from "./live.js";
import { alarm, facts, heading, moment, prose, status } from "./say.js";
import { timeline } from "./timeline.js";
import { place } from "./trouble.js";

const ACTIONS = ["confirm", "waive", "release", "refund", "record_payment", "close"];

export function orderView({ root, signal, retitle, id }) {
  retitle(id);
  const where = place(() => again());
  root.append(el("a", { class: "back", href: "#/orders" }, t("nav_orders")), heading(el("span", { class: "id" }, id)),
    el("div", { class: "actions deeds" }, deedButton(t("decide"), () => decide(id, () => again()), { testid: "decide" }),
      deedButton(t("take_refund"), () => takeRefund(id, () => again()), { testid: "take-refund" })), where.node);
  let shown = "";
  const again = refresh(signal, async () => {
    const { as_of, ...story } = await api.story(id, signal);
    // Drawn anew only when something happened: a reader is not disturbed by the beat.
    const key = JSON.stringify([
      story.order, story.entries.length, story.waits_for, story.next.map(({ what }) => what), story.cases.length, story.overrides,
    ]);
    if (signal.aborted) return;
    if (key !== shown) where.show(...parts(story, () => again()));
    shown = key;
  }, { onTrouble: (error) => where.trouble(error) });
}

function parts(story, onDone) {
  const { order } = story;
  return [
    el("p", { class: "answer", lang: "en", data: { testid: "answer" } }, story.answer),
    el("section", { class: "card", data: { testid: "order" } }, standing(story)),
    el("div", { class: "side-by-side" },
      section(t("waits_for"), t("waits_for_nothing"), story.waits_for.map(({ whom, what }) =>
        el("li", {}, el("strong", {}, t(`whom_${whom}`)), " ", el("span", { lang: "en" }, prose(what))))),
      section(t("happens_next"), t("happens_next_nothing"), story.next.map(({ at, what, to }) =>
        el("li", {}, el("time", { datetime: at }, moment(at)), " ", el("span", { lang: "en" }, what), to && [" → ", status(to)])))),
    cards(t("nav_cases"), story.cases.map((one) => card(one, onDone, { ofOrder: true }))),
    cards(t("overrides"), story.overrides.map((one) => override(one, onDone, { ofOrder: true }))),
    el("h2", {}, t("timeline")), timeline(story.entries),
    el("details", { class: "endings" }, el("summary", {}, t("endings")),
      el("ul", { class: "history" }, story.endings.map(({ status: ending, through }) => el("li", {}, status(ending), " ",
        through ? el("span", { lang: "en" }, through.join(" → ")) : el("span", { class: "zero" }, t("ending_impossible")))))),
  ].filter(Boolean);
}

const cards = (title, items) => items.length > 0 &&
  el("section", {}, el("h2", {}, title), el("ul", { class: "cases" }, items));

const section = (title, nothing, items) => el("section", {}, el("h2", {}, title),
  items.length > 0 ? el("ul", { class: "history" }, items) : el("p", { class: "hint" }, nothing));

function standing({ order, money: where, user_id }) {
  const when = (at) => at && el("time", { datetime: at }, moment(at));
  const given = (fen) => fen > 0 ? money(fen) : null;
  return facts([
    [t("status"), status(order.status)],
    [t("customer"), el("a", { class: "id", href: `#/orders?text=${encodeURIComponent(user_id)}` }, user_id)],
    [t("session"), el("a", {
      class: "id", href: `#/sessions/${encodeURIComponent(order.schedule_id)}`, title: order.schedule_id,
    }, `${order.schedule_id.slice(0, 8)}…`)],
    [t("seat"), order.seat_no],
    [t("price"), money(where.price_fen)],
    [t("money_paid"), given(where.paid_fen)],
    [t("money_promised"), given(where.promised_back_fen)],
    [t("refunded"), given(where.refunded_fen)],
    [t("money_set_aside"), where.set_aside_fen > 0 ? alarm(money(where.set_aside_fen)) : null],
    [t("reason"), order.reason],
    [t("transaction"), order.transaction_id && el("span", { class: "id" }, order.transaction_id)],
    [t("placed"), when(order.created_at)],
    [t("hold_until"), ["held", "awaiting_payment"].includes(order.status) ? when(order.hold_expires_at) : null],
    [t("pay_until"), ["held", "awaiting_payment", "lapsed"].includes(order.status) ? when(order.pay_before) : null],
    [t("paid"), when(order.paid_at)],
  ]);
}

/** A refund that staff made in the merchant platform. Asked for twice it changes nothing. */
function takeRefund(id, onDone) {
  ask({
    title: t("take_refund"), lead: t("take_refund_lead"), confirm: t("take_refund"),
    fields: [
      { name: "out_refund_no", label: t("take_refund_number"), required: true },
      { name: "reason", label: t("reason_why"), kind: "long", required: true },
    ],
    act: async (said) => { await api.takeRefund(id, said); onDone(); },
  });
}

/** One key per opened dialog: a second click, or a try after no answer, is the same decision. */
function decide(id, onDone) {
  const key = newKey();
  ask({
    title: t("decide_title"), lead: t("decide_lead"), confirm: t("decide"),
    fields: [
      { name: "action", label: t("decide_action"), kind: "choice", options: ACTIONS.map((action) => [action, t(`action_${action}`)]) },
      { name: "amount_fen", label: t("decide_amount"), kind: "money", hint: t("decide_amount_hint"), only: ({ action }) => ["refund", "record_payment"].includes(action) },
      { name: "receipt", label: t("decide_receipt"), hint: t("decide_receipt_hint"), only: ({ action }) => action === "record_payment" },
      { name: "reason", label: t("reason_why"), kind: "long", required: true },
    ],
    act: async (decision) => { await api.decide({ order_id: id, ...decision }, key); onDone(); },
  });
}
