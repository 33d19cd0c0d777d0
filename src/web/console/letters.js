// Dead letters: what nobody could handle, filtered by the address, one by one or grouped by cause or by what
// would come of them now. Looking takes nothing out of a queue.

import { el } from "../both/dom.js";
import { count as plural, t } from "../both/language.js";
import * as api from "./api.js";
import { deedButton, mayAct } from "./deed.js";
import { discard, restore } from "./letter_deeds.js";
import { groupsTable } from "./letter_groups.js";
import { refresh } from "./live.js";
import { planDeed } from "./replay_plan.js";
import { ago, effect, heading, more, none, plain, quote, sum } from "./say.js";
import { table } from "./table.js";
import { nothing, place } from "./trouble.js";

const STATES = ["parked", "replayed", "discarded", "gone"];
const QUEUES = ["orders.dead", "prepay.dead", "payments.dead", "expiry.dead", "refunds.dead", "notifications.dead"];
const FILTERS = ["queue", "error_class", "kind", "order_id", "cause", "effect", "text"];

export function lettersView({ root, signal, retitle, query, go }) {
  retitle(t("nav_letters"));
  const state = STATES.includes(query.get("state")) ? query.get("state") : "parked";
  const by = ["cause", "effect"].includes(query.get("by")) ? query.get("by") : "";
  const filter = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  const chosen = new Set();

  const at = (changes) => {
    const next = { state: state === "parked" ? "" : state, by, ...filter, ...changes };
    const given = Object.entries(next).filter(([, value]) => value);
    return given.length > 0 ? `/letters?${new URLSearchParams(given)}` : "/letters";
  };
  const tab = (words, changes, here) =>
    el("a", { class: "tab", href: `#${at(changes)}`, "aria-current": here ? "true" : null }, words);
  const form = filters(filter, (values) => go(at(values)));
  const actions = el("div", { class: "actions deeds" });
  const rest = more(() => read(true));
  const where = place(() => again());
  root.append(
    heading(t("letters_title"), t("letters_lead")),
    el("div", { class: "toolbar" },
      el("nav", { class: "tabs", "aria-label": t("letters_state") }, STATES.map((one) =>
        tab(t(`letter_${one}`), { state: one === "parked" ? "" : one }, one === state))),
      el("nav", { class: "tabs", "aria-label": t("letters_by") }, ["", "cause", "effect"].map((one) =>
        tab(t(one ? `letters_by_${one}` : "letters_by_none"), { by: one }, one === by))),
      el("a", { class: "aside", href: "#/replays" }, t("nav_replays"))),
    form, narrowed(filter, at), actions, where.node, rest);

  const rows = by ? groupsTable(by, at) : list(state, chosen, showActions);
  let items = [];
  let cursor;
  async function read(further = false) {
    const wanted = { ...filter, state };
    const answer = by
      ? await api.letterGroups({ filter: wanted, by, signal })
      : await api.letters({ filter: wanted, cursor: further ? cursor : undefined, signal });
    if (signal.aborted) return;
    items = further ? [...items, ...answer.items] : answer.items;
    cursor = answer.next;
    rest.hidden = !cursor;
    for (const id of chosen) if (!items.some((letter) => letter.letter_id === id)) chosen.delete(id);
    rows.update(items);
    showActions();
    where.show(items.length > 0 ? rows.node : nothing(t(isNarrowed(filter) ? "letters_none_fit" : `letters_none_${state}`)));
  }
  const again = refresh(signal, async () => { if (items.length <= 50) await read(); }, { onTrouble: (error) => where.trouble(error) });

  function showActions() {
    const choice = chosen.size > 0 ? { letters: [...chosen] } : { filter: given(filter) };
    const which = chosen.size > 0 ? plural("letters_chosen", chosen.size) : t(isNarrowed(filter) ? "letters_all_fit" : "letters_all");
    const key = `${state} ${which} ${items.length > 0}`;
    if (!mayAct() || actions.dataset.key === key) return;
    actions.dataset.key = key;
    const none = items.length === 0;
    actions.replaceChildren(...[
      el("span", { class: "hint" }, which),
      state === "parked" && deedButton(t("replay"), () => planDeed(choice, which, go), { testid: "replay", disabled: none }),
      state === "parked" && deedButton(t("discard"), () => discard(choice, which, again),
        { danger: true, testid: "discard", disabled: none }),
      state === "discarded" && deedButton(t("restore"), () => restore([...chosen], which, again),
        { testid: "restore", disabled: chosen.size === 0 }),
    ].filter(Boolean));
  }
}

const given = (filter) => Object.fromEntries(Object.entries(filter).filter(([, value]) => value));
const isNarrowed = (filter) => Object.keys(given(filter)).length > 0;

function filters(filter, onWish) {
  const queue = el("select", { id: "letters-queue", "aria-label": t("queue") }, el("option", { value: "" }, t("letters_every_queue")),
    QUEUES.map((name) => el("option", { value: name, selected: filter.queue === name }, name)));
  const text = el("input", {
    type: "search", value: filter.text, placeholder: t("letters_text"), "aria-label": t("letters_text"), maxlength: 200,
    spellcheck: "false", data: { testid: "letters-text" },
  });
  const form = el("form", { class: "toolbar", role: "search", on: { submit: (event) => { event.preventDefault(); wish(); } } },
    queue, text, el("button", { type: "submit", class: "button quiet" }, t("find")));
  queue.addEventListener("change", wish);
  function wish() { onWish({ queue: queue.value, text: text.value.trim() }); }
  return form;
}

/** What the list is narrowed to beside queue and text; each can be taken away. */
function narrowed(filter, at) {
  const shown = ["error_class", "kind", "order_id", "cause", "effect"].filter((name) => filter[name]);
  return el("p", { class: "narrowed", hidden: shown.length === 0 }, shown.map((name) =>
    el("a", { class: "chip", href: `#${at({ [name]: "" })}`, title: t("letters_widen") },
      `${t(`letters_${name}`)}: ${name === "effect" ? t(`effect_${filter[name]}`) : plain(filter[name], 60)} ×`)));
}

function list(state, chosen, onChoice) {
  const choice = {
    title: "", kind: "tick", cell: (letter) => el("input", {
      type: "checkbox", "aria-label": t("letters_choose", { id: letter.letter_id }), checked: chosen.has(letter.letter_id),
      on: { change: (event) => { chosen[event.target.checked ? "add" : "delete"](letter.letter_id); onChoice(); } },
    }),
  };
  return table({
    label: t("letters_title"), testid: "letters", key: (letter) => letter.letter_id,
    columns: [
      ...(mayAct() && ["parked", "discarded"].includes(state) ? [choice] : []),
      { title: t("letters_error_class"), cell: (letter) => el("a", { class: "id", href: `#/letters/${letter.letter_id}` }, letter.error_class) },
      { title: t("letters_kind"), kind: "id", cell: (letter) => quote(letter.kind || t("letters_no_kind")) },
      { title: t("queue"), kind: "id", cell: (letter) => letter.queue },
      { title: t("letters_effect"), cell: (letter) => effect(letter.effect) },
      { title: t("money"), kind: "number", cell: (letter) => letter.money_fen ? sum(letter.money_fen) : none() },
      { title: t("letters_failed"), kind: "number", cell: (letter) => ago(letter.failed_at) },
      { title: t("letters_error"), kind: "wide", cell: (letter) => quote(letter.error, { short: true }) },
    ],
  });
}
