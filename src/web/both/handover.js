// A link handed over a token that the page does not simply take: it is for another user than the one
// who is signed in, or it is no token. What happens is named, and the customer decides.

import { el } from "./dom.js";
import { forget, settle, signedIn } from "./identity.js";
import { t } from "./language.js";

/** `offer` as `offered()` gives it; `done(view)` goes on. */
export function handoverView({ root, retitle, done }, offer) {
  const button = (id, words, taken, quiet) => el("button", {
    type: "button", class: quiet ? "button quiet" : "button", data: { testid: id },
    on: { click: () => done(settle(taken)) },
  }, words);
  const anew = () => { settle(false); forget(); };
  const [title, text, buttons] = offer.broken
    ? [t("handover_broken"), t("handover_broken_text"), [
      button("handover-on", t("handover_on"), false),
      signedIn() && el("button", { type: "button", class: "button quiet", data: { testid: "sign-in" }, on: { click: anew } }, t("sign_in")),
    ]]
    : [t("handover_title", { to: offer.to }), t("handover_text", { from: offer.from, to: offer.to }), [
      button("handover-stay", t("handover_stay", { from: offer.from }), false),
      button("handover-switch", t("handover_switch", { to: offer.to }), true, true),
    ]];
  retitle(title);
  root.append(el("section", { class: "sign-in handover", data: { testid: offer.broken ? "handover-broken" : "handover" } },
    el("h1", { tabindex: -1 }, title),
    el("p", { class: "lead", role: offer.broken ? "alert" : null }, text),
    el("div", { class: "actions" }, buttons)));
}
