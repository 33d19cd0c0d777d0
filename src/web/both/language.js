// Which language the reader wants: `?lang=` wins, then what they chose last, else Chinese. Each page brings
// its own words.

const STORE = "holdfast.language";
const LANGUAGES = ["zh", "en"];
let current = pick();
let words = {};

/** The page's words, by language and key; once, before anything is said. */
export function speak(own) {
  words = own;
}

export const language = () => current;

/** For `lang` attributes, `Intl` and `Accept-Language`. */
export const locale = () => (current === "en" ? "en-GB" : "zh-CN");
export const acceptLanguage = () => (current === "en" ? "en, zh-CN;q=0.5" : "zh-CN, en;q=0.5");

export function setLanguage(next) {
  current = next;
  try { localStorage.setItem(STORE, next); } catch { /* private mode: the choice lasts for this page */ }
  const url = new URL(location.href);
  if (url.searchParams.has("lang")) {
    url.searchParams.set("lang", next);
    history.replaceState(null, "", url);
  }
}

/** The words for `key`, with `{name}` filled from `values`. */
export function t(key, values = {}) {
  const text = words[current][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** Like `t`, choosing `key.one` where the language tells one from many. */
export const count = (key, n, values = {}) =>
  t(n === 1 && words[current][`${key}.one`] ? `${key}.one` : key, { n, ...values });

function pick() {
  let wish = new URLSearchParams(location.search).get("lang");
  if (wish) {
    wish = wish.toLowerCase().slice(0, 2);
    if (LANGUAGES.includes(wish)) {
      try { localStorage.setItem(STORE, wish); } catch { /* as above */ }
      return wish;
    }
  }
  try { wish = localStorage.getItem(STORE); } catch { wish = null; }
  return LANGUAGES.includes(wish) ? wish : "zh";
}
