// Why money goes back. What a customer chose is stored and told by WeChat in the words they chose it
// in; known words are shown in the language that is read now, all others as they are.

import { t } from "../both/language.js";
import { words } from "./words.js";

/** The API wants a reason, a customer may have none to give: then this, which is not shown again. */
const NONE = "reason_none";

/** To choose from. */
export const PRESETS = [NONE, "reason_time", "reason_mistake", "reason_plans", "reason_other"];

/** What our own refunds give as their reason. */
const OWN = ["reason_late", "reason_cancelled"];

/** A stored reason for the customer to read; empty when none was given. */
export function reasonWords(reason) {
  const key = [...PRESETS, ...OWN].find((one) => Object.values(words).some((language) => language[one] === reason));
  if (key === NONE) return "";
  return key ? t(key) : reason;
}
