// Planning a replay: the set is frozen and judged first, so that what will happen can be looked at before
// anything does.

import { t } from "../both/language.js";
import * as api from "./api.js";
import { ask } from "./deed.js";
import { pretty } from "./say.js";
import { Refused } from "./trouble.js";

/** `choice`: letters by name, or a filter. `letter`: the one whose body is to be mended. */
export function planDeed(choice, which, go, letter) {
  ask({
    title: t(letter ? "replay_edited" : "replay_title"), lead: `${which}. ${t("replay_lead")}`, confirm: t("replay_plan"),
    fields: [
      { name: "reason", label: t("reason_why"), kind: "long", required: true },
      ...(letter ? [{
        name: "patch", label: t("replay_patch"), kind: "json", value: pretty(letter.body), required: true,
        hint: t("replay_patch_hint"),
      }] : []),
      { name: "canary", label: t("replay_canary"), kind: "number", value: "1", min: 0, max: 10_000, hint: t("replay_canary_hint") },
      { name: "per_second", label: t("replay_rate"), kind: "number", value: "500", min: 1, max: 10_000 },
      { name: "stop_percent", label: t("replay_stop"), kind: "number", value: "20", min: 0, max: 100 },
    ],
    act: async ({ patch, ...plan }) => {
      const wanted = { ...choice, ...plan, dry_run: true };
      if (letter) wanted.patch = difference(letter.body, patch);
      const { replay_id } = await api.planReplay(wanted);
      go(`/replays/${replay_id}`);
    },
  });
}

/** The merge patch (RFC 7396) that makes `before` into `after`, both JSON texts. */
export function difference(before, after) {
  let wanted;
  try {
    wanted = JSON.parse(after);
  } catch {
    throw new Refused(t("replay_patch_no_json"));
  }
  let had;
  try { had = JSON.parse(before); } catch { return wanted; }
  return patch(had, wanted) ?? {};
}

function patch(before, after) {
  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  if (!isObject(before) || !isObject(after)) return JSON.stringify(before) === JSON.stringify(after) ? undefined : after;
  const changes = {};
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const change = name in after ? (name in before ? patch(before[name], after[name]) : after[name]) : null;
    if (change !== undefined) changes[name] = change;
  }
  return Object.keys(changes).length > 0 ? changes : undefined;
}
