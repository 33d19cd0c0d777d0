// All replays there were, newest first.

import { el } from "../both/dom.js";
import { t } from "../both/language.js";
import * as api from "./api.js";
import { refresh } from "./live.js";
import { ago, alarm, chip, count, heading, more, quote } from "./say.js";
import { table } from "./table.js";
import { nothing, place } from "./trouble.js";

export function replaysView({ root, signal, retitle }) {
  retitle(t("nav_replays"));
  const rows = list();
  const rest = more(() => read(true));
  const where = place(() => again());
  root.append(el("a", { class: "back", href: "#/letters" }, t("nav_letters")), heading(t("nav_replays")), where.node, rest);

  let replays = [];
  let cursor;
  async function read(further = false) {
    const answer = await api.replays({ cursor: further ? cursor : undefined, signal });
    if (signal.aborted) return;
    replays = further ? [...replays, ...answer.items] : answer.items;
    cursor = answer.next;
    rest.hidden = !cursor;
    rows.update(replays);
    where.show(replays.length > 0 ? rows.node : nothing(t("replays_none")));
  }
  const again = refresh(signal, async () => { if (replays.length <= 50) await read(); }, { onTrouble: (error) => where.trouble(error) });
}

export const REPLAY_TONES = { planned: "", running: "wait", paused: "bad", cancelled: "", finished: "good" };

const list = () => table({
  label: t("nav_replays"), testid: "replays", key: (replay) => replay.replay_id,
  columns: [
    { title: t("replay"), kind: "id", cell: (replay) => el("a", { class: "id", href: `#/replays/${replay.replay_id}` }, replay.hash.slice(0, 12)) },
    { title: t("state"), cell: (replay) => chip(t(`replay_${replay.state}`), REPLAY_TONES[replay.state]) },
    { title: t("letters"), kind: "number", cell: (replay) => count(replay.letters) },
    { title: t("result_done"), kind: "number", cell: (replay) => count(replay.done) },
    { title: t("result_parked_again"), kind: "number", cell: (replay) => replay.parked_again > 0 ? alarm(replay.parked_again) : count(0) },
    { title: t("replay_by"), cell: (replay) => replay.created_by },
    { title: t("replay_planned_at"), kind: "number", cell: (replay) => ago(replay.created_at) },
    { title: t("reason"), kind: "wide", cell: (replay) => quote(replay.reason, { short: true }) },
  ],
});
