// The console's map: which page belongs to which address, and the frame around it. All of a page's
// state is in its address, so that it can be sent to a colleague. A page gets a `signal` that ends
// when it is left; whatever it started hangs on that.
//
//   #/                  what stands open, and the queues
//   #/letters?state=…   dead letters               #/letters/<id>     one of them
//   #/replays           replays                    #/replays/<id>     how far one is
//   #/cases             what needs a person
//   #/orders?text=…     finding an order           #/orders/<id>      its whole story
//   #/sessions          sessions                   #/sessions/<id>    who sits where
//   #/errors?range=…    what went wrong over time
//   #/money             money in doubt             #/invariants       every promise, asked of the books
//   #/books             WeChat's bill, day by day  #/books/<date>     what differs in one

import "./words.js";
import * as api from "./api.js";
import { announce, el, setting, svg } from "../both/dom.js";
import { handoverView } from "../both/handover.js";
import { arrive, forget, introduce, offered, role, signedIn, token, user } from "../both/identity.js";
import { language, locale, setLanguage, t } from "../both/language.js";
import { bookDayView } from "./book_day.js";
import { booksView } from "./books.js";
import { casesView } from "./cases.js";
import { errorsView } from "./errors.js";
import { invariantsView } from "./invariants.js";
import { letterView } from "./letter.js";
import { lettersView } from "./letters.js";
import * as live from "./live.js";
import { moneyView } from "./money.js";
import { nowView } from "./now.js";
import { orderView } from "./order.js";
import { ordersView } from "./orders.js";
import { replayView } from "./replay.js";
import { replaysView } from "./replays.js";
import { sessionView } from "./session.js";
import { sessionsView } from "./sessions.js";
import { signInView } from "./signin.js";

const ROUTES = [
  [/^\/?$/, nowView],
  [/^\/letters$/, lettersView],
  [/^\/letters\/([^/]+)$/, letterView],
  [/^\/replays$/, replaysView],
  [/^\/replays\/([^/]+)$/, replayView],
  [/^\/cases$/, casesView],
  [/^\/orders$/, ordersView],
  [/^\/orders\/([^/]+)$/, orderView],
  [/^\/sessions$/, sessionsView],
  [/^\/sessions\/([^/]+)$/, sessionView],
  [/^\/errors$/, errorsView],
  [/^\/money$/, moneyView],
  [/^\/books$/, booksView],
  [/^\/books\/([^/]+)$/, bookDayView],
  [/^\/invariants$/, invariantsView],
];

/** Page, its words, and the count beside it: from the overview, null when nobody can tell. */
const NAV = [
  ["/", "nav_now"],
  ["/letters", "nav_letters", (overview) => overview.dead_letters],
  ["/cases", "nav_cases", (overview) => overview.cases?.open],
  ["/orders", "nav_orders"],
  ["/sessions", "nav_sessions"],
  ["/errors", "nav_errors"],
  ["/money", "nav_money", (overview) => overview.money_in_doubt?.orders],
  ["/books", "nav_books"],
  ["/invariants", "nav_invariants"],
];

const ROLES = ["customer", "viewer", "operator"];

const main = document.getElementById("main");
let leave = new AbortController();
let refused = false;

const knows = (path) => ROUTES.some(([known]) => known.test(path.split("?")[0]));

arrive(knows);
addEventListener("hashchange", async () => {
  arrive(knows);
  await meet();
  show(true);
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address after "#" is a page, not a place in the document
  main.focus();
});
addEventListener("holdfast:signed-out", (event) => { refused = event.detail.refused; show(true); });
addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey || !signedIn()) return;
  event.preventDefault();
  const search = document.querySelector("main input[type=search]");
  if (search) search.focus();
  else go("/orders");
});
live.start();
await meet();
show(false);

/** Asks the API who this is, where no token tells it: behind a proxy, or when the issuer names roles its own way. */
async function meet() {
  const isProxied = !token() && setting("sign-in") === "proxy";
  if (!isProxied && (!token() || ROLES.includes(role()))) return;
  try { introduce(await api.me()); } catch { /* the page's own requests say what is wrong */ }
}

function show(moved) {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  const [path, query] = location.hash.replace(/^#/, "").split("?");
  frame(path || "/", signal);
  const root = el("div", { class: "view" });
  main.replaceChildren(root);
  const context = { root, signal, go, retitle, query: new URLSearchParams(query), remember: (values) => remember(path, values) };
  if (offered()) {
    handoverView({ ...context, done: async (view) => { address(view, true); await meet(); show(true); } }, offered());
  } else if (!signedIn()) {
    signInView({ ...context, refused, reload: async () => { refused = false; await meet(); show(true); } });
  } else {
    const [pattern, view] = ROUTES.find(([known]) => known.test(path)) ?? [];
    if (!view) return go("/", { replace: true });
    const [, id] = pattern.exec(path);
    view({ ...context, id: id && decodeURIComponent(id) });
  }
  if (moved) {
    scrollTo(0, 0);
    (root.querySelector("[data-first-focus]") ?? root.querySelector("h1") ?? main).focus({ preventScroll: true });
  }
}

/** Goes to a page; `replace` when "back" must not return to this one. */
function go(path, { replace = false } = {}) {
  address(path, replace);
  show(true);
}

function address(path, replace) {
  const how = replace || location.hash === `#${path}` ? "replaceState" : "pushState";
  history[how](null, "", `#${path}`);
}

/** Writes a page's state into its address without leaving it; what is empty is left out. */
function remember(path, values) {
  const given = Object.entries(values).filter(([, value]) => value);
  history.replaceState(null, "", `#${path}${given.length > 0 ? `?${new URLSearchParams(given)}` : ""}`);
}

function retitle(text) {
  document.title = `${text} · holdfast`;
}

function switchLanguage() {
  setLanguage(language() === "en" ? "zh" : "en");
  show(false);
  document.querySelector("[data-testid=language]").focus();
}

function frame(path, signal) {
  document.documentElement.lang = locale();
  document.getElementById("skip").textContent = t("skip");
  const known = signedIn();
  const links = NAV.map(([to, words, count]) => {
    const badge = count && el("span", { class: "badge", hidden: true });
    const here = to === "/" ? path === "/" : path === to || path.startsWith(`${to}/`);
    const node = el("a", { href: `#${to}`, "aria-current": here ? "page" : null }, el("span", {}, t(words)), badge);
    return { node, update: (overview) => badge && tell(badge, overview && count(overview)) };
  });
  const pulse = el("p", { class: "pulse", data: { testid: "pulse" } });
  document.getElementById("rail").replaceChildren(
    el("a", { class: "brand", href: "#/" }, mark(), el("span", {}, "holdfast")),
    known ? el("nav", { "aria-label": t("nav_label") }, links.map(({ node }) => node)) : "",
    el("div", { class: "rail-foot" },
      known && pulse,
      known && el("p", { class: "who" }, user(), " ", el("span", { class: "chip", data: { testid: "role" } }, ROLES.includes(role()) ? t(`role_${role()}`) : "")),
      el("div", { class: "rail-links" },
        el("button", {
          type: "button", class: "link", lang: language() === "en" ? "zh-CN" : "en",
          "aria-label": t("other_language_label"), data: { testid: "language" }, on: { click: switchLanguage },
        }, t("other_language")),
        token() && el("button", { type: "button", class: "link", on: { click: () => forget() } }, t("sign_out")))));
  // On a phone the bar may be longer than the screen.
  document.querySelector(".rail [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
  if (known) live.watch(signal, (overview, standing) => {
    for (const link of links) link.update(overview);
    pulse.dataset.live = standing;
    pulse.textContent = t(`live_${standing}`);
    if (standing === "lost") announce(t("live_lost"));
  });
}

function tell(badge, count) {
  badge.hidden = !count;
  badge.textContent = count ?? "";
}

function mark() {
  return svg("svg", { class: "mark", viewBox: "0 0 32 32", "aria-hidden": "true" },
    svg("rect", { width: 32, height: 32, rx: 9 }),
    svg("path", { d: "M11 8v9h10V8M9 17v5h14v-5M11 22v3M21 22v3" }));
}
