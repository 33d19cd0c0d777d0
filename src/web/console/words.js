// Every word the console says, in both languages, one file each. `{name}` is filled in. What the server
// says of a problem is not here: it comes in the reader's language.

import { speak } from "../both/language.js";
import { en } from "./words.en.js";
import { zh } from "./words.zh.js";

speak({ zh, en });
