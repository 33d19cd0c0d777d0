// The page's map: which view belongs to which address, and the frame around it. A view gets a
// `signal` that ends when the customer leaves it; whatever it started hangs on that.
//
//   #/                  sessions          #/schedules/<id>   choose a seat
//   #/booking           placing           #/orders/<id>      one order        #/orders   my bookings
//                                         #/orders/<id>/refund   and its money back

import "./words.js";
import { chooseView } from "./choose.js";
import { el, svg } from "../both/dom.js";
import { handoverView } from "../both/handover.js";
import { arrive, forget, offered, token, user } from "../both/identity.js";
import { language, locale, setLanguage, t } from "../both/language.js";
import { mineView } from "./mine.js";
import { orderView } from "./order.js";
import { placingView } from "./placing.js";
import { sessionsView } from "./sessions.js";
import { signInView } from "./signin.js";

const ROUTES = [
  [/^\/?$/, sessionsView],
  [/^\/schedules\/([^/]+)$/, chooseView],
  [/^\/booking$/, placingView],
  [/^\/orders$/, mineView],
  [/^\/orders\/([^/]+)(\/refund)?$/, orderView],
];

const main = document.getElementById("main");
let leave = new AbortController();
let refused = false;

const knows = (path) => ROUTES.some(([known]) => known.test(path));

arrive(knows);
addEventListener("hashchange", () => {
  arrive(knows);
  show(true);
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address after "#" is a view, not a place in the document
  main.focus();
});
addEventListener("holdfast:signed-out", (event) => { refused = event.detail.refused; show(true); });
show(false);

function show(moved) {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  frame();
  const root = el("div", { class: "view" });
  main.replaceChildren(root);
  const context = { root, signal, go, retitle, reload: () => { refused = false; show(true); } };
  if (offered()) {
    handoverView({ ...context, done: (view) => go(view, { replace: true }) }, offered());
  } else if (!token()) {
    signInView({ ...context, refused });
  } else {
    const path = location.hash.replace(/^#/, "");
    const [pattern, view] = ROUTES.find(([known]) => known.test(path)) ?? [];
    if (!view) return go("/", { replace: true });
    const [, id, deed] = pattern.exec(path);
    view({ ...context, id: id && decodeURIComponent(id), refundWanted: Boolean(deed) });
  }
  if (moved) {
    scrollTo(0, 0);
    (root.querySelector("h1") ?? main).focus({ preventScroll: true });
  }
}

/** Goes to a view; `replace` when "back" must not return to this one. */
function go(path, { replace = false } = {}) {
  // Not by location.hash, whose event comes later: a second click must not find the old view.
  const how = replace || location.hash === `#${path}` ? "replaceState" : "pushState";
  history[how](null, "", `#${path}`);
  show(true);
}

function retitle(text) {
  document.title = `${text} · ${t("title")}`;
}

function switchLanguage() {
  setLanguage(language() === "en" ? "zh" : "en");
  show(false);
  document.querySelector("[data-testid=language]").focus();
}

function frame() {
  document.documentElement.lang = locale();
  document.getElementById("skip").textContent = t("skip");
  const at = location.hash.replace(/^#/, "") || "/";
  const tab = (path, text) => el("a", { href: `#${path}`, "aria-current": at === path ? "page" : null }, text);
  document.getElementById("top").replaceChildren(
    el("a", { class: "brand", href: "#/" }, mark(), el("span", {}, t("title"))),
    el("nav", { "aria-label": t("nav_label") }, token() ? [tab("/orders", t("nav_orders"))] : []),
    el("button", {
      type: "button", class: "language", lang: language() === "en" ? "zh-CN" : "en",
      "aria-label": t("other_language_label"), data: { testid: "language" },
      on: { click: switchLanguage },
    }, t("other_language")));
  document.getElementById("foot").replaceChildren(...(token() ? [
    el("span", {}, t("signed_in", { user: user() })),
    el("button", { type: "button", class: "link", on: { click: () => forget() } }, t("sign_out")),
  ] : []));
}

function mark() {
  return svg("svg", { class: "mark", viewBox: "0 0 32 32", "aria-hidden": "true" },
    svg("rect", { width: 32, height: 32, rx: 9 }),
    svg("path", { d: "M11 8v9h10V8M9 17v5h14v-5M11 22v3M21 22v3" }));
}
