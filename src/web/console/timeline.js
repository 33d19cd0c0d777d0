// What happened to an order, oldest first: every kind of event in one line of time, the rest on request.

import { el } from "../both/dom.js";
import { t } from "../both/language.js";
import { moment, plain, quote, raw, status } from "./say.js";

const BAD = new Set(["parked", "failed", "refused", "abnormal", "mismatched", "unknown_order"]);
const WAIT = new Set(["retried", "unknown", "busy", "uncertain", "pending", "proposed"]);

export const timeline = (entries) => el("ol", { class: "timeline", data: { testid: "timeline" } },
  entries.map((entry, at) => line(entry, entries[at - 1])));

function line(entry, before) {
  const isNewDay = !before || moment(before.at).slice(0, 10) !== moment(entry.at).slice(0, 10);
  const words = [
    el("time", { datetime: entry.at }, isNewDay && el("span", { class: "hint" }, moment(entry.at).slice(0, 10), " "), clock(entry.at)),
    el("span", { class: "entry-kind" }, t(`entry_${entry.kind}`)),
    el("span", { class: "entry-what" },
      quote(entry.what, { kind: "id" }), " ",
      entry.to ? [entry.from && [status(entry.from), " → "], status(entry.to)] : el("span", { class: "outcome" }, entry.outcome),
      took(entry), entry.who && el("span", { class: "hint" }, ` · ${plain(entry.who, 200)}`),
      trouble(entry) && el("span", { class: "hint why" }, quote(trouble(entry)))),
  ];
  const rest = { ...(entry.request_id ? { request_id: entry.request_id } : {}), ...entry.details };
  return el("li", { data: { kind: entry.kind, tone: tone(entry) } }, Object.keys(rest).length === 0
    ? el("div", { class: "entry" }, words)
    : el("details", {}, el("summary", { class: "entry", title: t("details") }, words),
      raw(rest)));
}

/** `20:04:31.250` */
const clock = (at) => `${moment(at).slice(11)}.${String(new Date(at).getMilliseconds()).padStart(3, "0")}`;

function tone({ outcome, kind }) {
  if (BAD.has(outcome) || kind === "case" && outcome === "open") return "bad";
  if (WAIT.has(outcome)) return "wait";
  return kind === "state" ? "state" : "";
}

const took = ({ took_ms }) => took_ms === undefined ? "" : el("span", { class: "hint" }, ` · ${t("took", { ms: took_ms })}`);

/** Why, in somebody's words. */
const trouble = ({ reason, details }) => [reason, details?.trouble, details?.error, details?.detail].filter(Boolean).join(" · ");
