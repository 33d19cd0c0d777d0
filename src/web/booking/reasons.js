// Why money goes back. What a customer chose is stored and told by WeChat in the words they chose it
// in; known words are shown in the language that is read now, all others as they are.

import { t } from "./language.js";
import { words } from "./words.js";

/** To choose from; the first one says nothing. */
export const PRESETS = ["reason_none", "reason_time", "reason_mistake", "reason_plans", "reason_other"];

/** What our own refunds give as their reason. */
const OWN = ["reason_late"];

export function reasonWords(reason) {
  const key = [...PRESETS, ...OWN].find((one) => Object.values(words).some((language) => language[one] === reason));
  return key ? t(key) : reason;
}
