// Small things that many pages say: numbers, ages, what nobody knows, what an id leads to.

import { now } from "../both/clock.js";
import { el, unseen } from "../both/dom.js";
import { ZONE, money } from "../both/format.js";
import { locale, t } from "../both/language.js";

/** Not zero, not nothing: nobody can tell. */
export const unknown = () => el("span", { class: "unknown" }, t("unknown"));

/** A count; `null` is unknown. Zeros step back. */
export function count(n) {
  if (n === null || n === undefined) return unknown();
  const text = n.toLocaleString(locale());
  return n === 0 ? el("span", { class: "zero" }, text) : text;
}

/** Seconds as the largest unit that says enough: `4 s`, `12 min`, `3 h 20 min`, `2 d 4 h`. */
export function span(seconds) {
  const [s, m, h] = [Math.max(0, Math.floor(seconds)), Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  if (s < 100) return t("span_s", { n: s });
  if (m < 100) return t("span_min", { n: m });
  if (h < 48) return t("span_h", { n: h, m: m % 60 });
  return t("span_d", { n: Math.floor(h / 24), h: h % 24 });
}

/** How long ago a time is, with the time itself on hover. */
export function ago(at) {
  if (!at) return none();
  return el("time", { datetime: at, title: moment(at) }, span((now() - Date.parse(at)) / 1000));
}

const FULL = new Intl.DateTimeFormat("sv-SE", {
  timeZone: ZONE, year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
});

/** A time in full, the same in every language: `2026-11-22 20:04:31`. */
export const moment = (at) => at ? FULL.format(new Date(at)) : "—";

/** There is none, and that is known. */
export const none = () => el("span", { class: "zero" }, "–", unseen(t("none")));

export const sum = (fen) => fen === 0 ? el("span", { class: "zero" }, money(fen)) : money(fen);

export const orderLink = (id) => el("a", { class: "id", href: `#/orders/${encodeURIComponent(id)}`, dir: "ltr" }, id);

export const status = (name) =>
  el("span", { class: "chip", data: { tone: TONES[name] ?? "", status: name } }, t(`status_${name}`));

const TONES = { confirmed: "good", refunded: "", refunding: "wait", held: "wait", awaiting_payment: "wait", lapsed: "wait" };

/** What could hide or turn round its neighbours on the screen: controls, bidirectional marks, nothing-wide ones. */
const SNEAKY = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
const LONGEST = 20_000;

/** Somebody else's text with everything sneaky written out, and not longer than a page can bear. */
export function plain(text, longest = LONGEST) {
  const whole = String(text);
  const shown = whole.slice(0, longest).replace(SNEAKY, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return whole.length > longest ? `${shown}… ${t("cut_off", { n: whole.length - longest })}` : shown;
}

/** Somebody else's text in a line; `short`: cut off where the room ends, whole on hover. */
export const quote = (text, { short = false, kind = "" } = {}) => el("span", {
  class: `quote ${short ? "short" : ""} ${kind}`.replace(/ +/g, " ").trim(), dir: "auto", title: short ? plain(text, 1_000) : null,
}, plain(text, 2_000));

/** Our own words, what stands in `backticks` set as code. */
export const prose = (words) => String(words).split("`").map((part, at) => at % 2 === 1 ? el("code", {}, part) : part);

/** Somebody else's text or document as it is, set out for reading. */
export const raw = (what, testid) => el("pre", { class: "raw", dir: "ltr", tabindex: 0, data: { testid } },
  plain(typeof what === "string" ? what : JSON.stringify(what, null, 2)));

/** Facts in two columns: `[[term, value]]`; those without a value are left out. */
export const facts = (pairs) => el("dl", { class: "facts" }, pairs
  .filter(([, value]) => value !== null && value !== undefined && value !== false && value !== "")
  .map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))));

/** A word in a small frame; `tone`: bad, wait, good or none. */
export const chip = (words, tone = "") => el("span", { class: "chip", data: { tone } }, words);

export const alarm = (...what) => el("span", { class: "alarm" }, what);

/** A button that reads the next page into the list. */
export const more = (onClick) =>
  el("button", { type: "button", class: "button quiet wide", hidden: true, data: { testid: "more" }, on: { click: onClick } }, t("more"));

export const heading = (title, lead) =>
  el("div", { class: "intro" }, el("h1", { tabindex: -1 }, title), lead && el("p", { class: "lead" }, lead));

/** What would come of a letter now. */
export const effect = (name) => chip(t(`effect_${name}`), EFFECT_TONES[name]);

const EFFECT_TONES = {
  done_already: "good", would_park_again: "bad", would_refund: "wait", would_open_case: "wait", would_confirm: "wait", would_lapse: "wait",
};

/** JSON set out for reading; anything else as it came. */
export function pretty(body) {
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return body;
  }
}
