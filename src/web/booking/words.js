// Every word the page says, in both languages, one file each for whoever translates.
// `{name}` is filled in; `key.one` is the form for exactly one. What the server explains
// (`user_message`) is not here: it comes in the customer's language.

import { speak } from "../both/language.js";
import { en } from "./words.en.js";
import { zh } from "./words.zh.js";

export const words = { zh, en };

speak(words);
