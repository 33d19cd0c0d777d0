// How near a time is, as customers read it; and that it is Shanghai's when the device is elsewhere.

import { now } from "../both/clock.js";
import { ZONE, dayKey } from "../both/format.js";
import { t } from "../both/language.js";

export * from "../both/format.js";

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
