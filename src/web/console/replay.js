// One replay: the frozen set, what it would do, how far it is, and what became of each letter.

import { announce, el } from "../both/dom.js";
import { money } from "../both/format.js";
import { t } from "../both/language.js";
import * as api from "./api.js";
import { ask, deedButton } from "./deed.js";
import { refresh } from "./live.js";
import { REPLAY_TONES } from "./replays.js";
import { alarm, chip, count, effect, facts, heading, moment, more, none, orderLink, quote } from "./say.js";
import { table } from "./table.js";
import { place } from "./trouble.js";

export function replayView({ root, signal, retitle, id }) {
  retitle(t("replay"));
  const rows = list();
  const rest = more(() => readItems(true));
  const where = place(() => again());
  root.append(el("a", { class: "back", href: "#/replays" }, t("nav_replays")), heading(t("replay")), where.node, rest);

  let items = [];
  let cursor;
  let state;
  async function readItems(further = false) {
    const answer = await api.replayItems(id, further ? cursor : undefined, signal);
    if (signal.aborted) return;
    items = further ? [...items, ...answer.items] : answer.items;
    cursor = answer.next;
    rest.hidden = !cursor;
    rows.update(items);
  }
  const again = refresh(signal, async () => {
    const replay = await api.replay(id, signal);
    if (items.length <= 50) await readItems();
    if (signal.aborted) return;
    if (state !== undefined && state !== replay.state) announce(t(`replay_${replay.state}`));
    state = replay.state;
    where.show(standing(replay), deeds(replay), forecast(replay), differences(replay), el("h2", {}, t("letters")), rows.node);
  }, { every: 1_500, onTrouble: (error) => where.trouble(error) });

  function deeds(replay) {
    const turn = (name, words, danger) => deedButton(words, () => ask({
      title: words, lead: t(`replay_${name}_lead`), confirm: words, danger,
      fields: [{ name: "reason", label: t("reason_why"), kind: "long", required: name === "cancel" }],
      act: async ({ reason }) => {
        await api.turnReplay(id, name, { reason, hash: name === "start" ? replay.hash : undefined });
        await again();
      },
    }), { danger, testid: `turn-${name}` });
    const { state: now } = replay;
    return el("div", { class: "actions deeds" },
      now === "planned" && turn("start", t("replay_start")),
      now === "paused" && turn("start", t("replay_resume")),
      now === "running" && turn("pause", t("replay_pause")),
      ["planned", "running", "paused"].includes(now) && turn("cancel", t("replay_cancel"), true));
  }
}

function standing(replay) {
  const settled = replay.done + replay.parked_again + replay.skipped;
  return el("section", { class: "card", data: { testid: "replay", state: replay.state } },
    el("p", { class: "replay-state" },
      chip(t(`replay_${replay.state}`), REPLAY_TONES[replay.state]),
      el("span", {}, t("replay_progress", { n: settled, of: replay.letters })),
      replay.paused_why && alarm(replay.paused_why)),
    el("progress", { class: "gauge", max: Math.max(1, replay.letters), value: settled, "aria-label": t("verify_progress") }),
    facts([
      [t("letters"), count(replay.letters)],
      [t("result_pending"), count(replay.pending)],
      [t("result_published"), count(replay.published)],
      [t("result_done"), count(replay.done)],
      [t("result_parked_again"), replay.parked_again > 0 ? alarm(replay.parked_again) : count(0)],
      [t("result_skipped"), count(replay.skipped)],
      [t("replay_canary"), count(replay.canary)],
      [t("replay_rate"), count(replay.per_second)],
      [t("replay_stop"), replay.stop_percent],
      [t("replay_by"), replay.created_by],
      [t("replay_planned_at"), moment(replay.created_at)],
      [t("replay_started_at"), replay.started_at && moment(replay.started_at)],
      [t("replay_finished_at"), replay.finished_at && moment(replay.finished_at)],
      [t("reason"), replay.reason && quote(replay.reason)],
      [t("replay_hash"), el("span", { class: "id", title: replay.hash }, `${replay.hash.slice(0, 16)}…`)],
    ]));
}

/** What would have happened when the set was frozen. */
const forecast = (replay) => el("section", { data: { testid: "forecast" } }, el("h2", {}, t("replay_forecast")),
  el("ul", { class: "forecast" }, Object.entries(replay.effects).map(([name, { letters, orders, money_fen }]) =>
    el("li", {}, effect(name), el("strong", {}, count(letters)), el("span", { class: "hint" },
      [t("replay_orders", { n: orders }), money_fen > 0 ? money(money_fen) : ""].filter(Boolean).join(" · "))))));

const differences = ({ differences: found }) => found.length > 0 && el("section", {}, el("h2", {}, t("replay_differences")),
  el("ul", { class: "history" }, found.map(({ path, before, after }) => el("li", { dir: "ltr" },
    quote(`${path}: ${JSON.stringify(before)} → ${JSON.stringify(after)}`, { kind: "id" })))));

const RESULT_TONES = { done: "good", parked_again: "bad", published: "wait" };

const list = () => table({
  label: t("letters"), testid: "replay-items", key: (item) => item.letter_id,
  columns: [
    { title: "#", kind: "number", cell: (item) => item.place },
    { title: t("letters_kind"), kind: "id", cell: (item) => el("a", { href: `#/letters/${item.letter_id}` }, quote(item.kind || t("letters_no_kind"))) },
    { title: t("order"), kind: "id", cell: (item) => item.order_id ? orderLink(item.order_id) : none() },
    { title: t("replay_forecast_short"), cell: (item) => effect(item.effect) },
    { title: t("result"), cell: (item) => chip(t(`result_${item.result}`), RESULT_TONES[item.result]) },
    { title: t("detail"), kind: "wide", cell: (item) => item.detail ? quote(item.detail, { short: true }) : none() },
  ],
});
