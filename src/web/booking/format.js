// Money and time as customers read them. Courses take place in China, so times are Shanghai's
// wherever the device is, and say so when the device is elsewhere.

import { language, locale, t } from "./language.js";
import { now } from "./clock.js";

const ZONE = "Asia/Shanghai";
const formats = new Map();

/** Fen to `¥200.00`, by integers only. */
export function money(fen) {
  if (!Number.isSafeInteger(fen)) return "—";
  const size = Math.abs(fen);
  const cents = size % 100;
  const yuan = (size - cents) / 100;
  return `${fen < 0 ? "−" : ""}¥${yuan}.${String(cents).padStart(2, "0")}`;
}

/** What a customer typed as yuan to fen, by integers only; null when it is no sum of money. */
export function parseMoney(text) {
  const typed = /^[¥￥]?\s*(\d{1,8})(?:\.(\d{1,2}))?$/.exec(text.normalize("NFKC").trim());
  return typed ? Number(typed[1]) * 100 + Number((typed[2] ?? "").padEnd(2, "0")) : null;
}

/** `11月28日 周六`, `Sat 28 Nov` */
export function day(at) {
  const [date, weekday] = [format(at, { month: "short", day: "numeric" }), format(at, { weekday: "short" })];
  return language() === "en" ? `${weekday} ${date}` : `${date} ${weekday}`;
}

/** `14:00` */
export const time = (at) => format(at, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

export const moment = (at) => `${day(at)} ${time(at)}`;

/** A key that is equal for two times of the same day in Shanghai. */
export const dayKey = (at) => format(at, { year: "numeric", month: "2-digit", day: "2-digit" });

/** `今天`, `明天` or nothing. */
export function nearness(at) {
  if (dayKey(at) === dayKey(now())) return t("today");
  if (dayKey(at) === dayKey(now() + 86_400_000)) return t("tomorrow");
  return "";
}

/** A note for devices outside China's time zone, else nothing. */
export function zoneNote() {
  return Intl.DateTimeFormat().resolvedOptions().timeZone === ZONE ? "" : t("zone");
}

/** Milliseconds to `14:59`; never below zero. */
export function clockFace(left) {
  const seconds = Math.max(0, Math.ceil(left / 1000));
  const pad = (n) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h > 0 ? `${h}:${pad(m)}:${pad(s)}` : `${pad(m)}:${pad(s)}`;
}

function format(at, options) {
  const key = locale() + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(locale(), { timeZone: ZONE, ...options }));
  const date = new Date(at ?? NaN);
  return Number.isNaN(date.getTime()) ? "—" : formats.get(key).format(date);
}
