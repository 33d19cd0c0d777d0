// Money and time as people read them. Courses take place in China, so times are Shanghai's wherever the
// device is.

import { language, locale } from "./language.js";

export const ZONE = "Asia/Shanghai";
const formats = new Map();

/** Fen to `¥1,200.00`, by integers only. */
export function money(fen) {
  if (!Number.isSafeInteger(fen)) return "—";
  const size = Math.abs(fen);
  const cents = size % 100;
  const yuan = (size - cents) / 100;
  const grouped = String(yuan).replace(/\B(?=(\d{3})+$)/g, ",");
  return `${fen < 0 ? "−" : ""}¥${grouped}.${String(cents).padStart(2, "0")}`;
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

/** A time in Shanghai, by the options of `Intl.DateTimeFormat`. */
export function format(at, options) {
  const key = locale() + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(locale(), { timeZone: ZONE, ...options }));
  const date = new Date(at ?? NaN);
  return Number.isNaN(date.getTime()) ? "—" : formats.get(key).format(date);
}
