// Nobody is signed in: a token is pasted, or, in development, made here.

import { el, setting } from "../both/dom.js";
import { keep, looksLikeToken } from "../both/identity.js";
import { t } from "../both/language.js";
import * as api from "./api.js";
import { words } from "./trouble.js";

export function signInView({ root, retitle, reload, refused }) {
  retitle(t("sign_in"));
  const answer = el("p", { class: "trouble-line", role: "alert", hidden: !refused }, refused ? t("sign_in_again") : "");
  const input = el("textarea", {
    id: "sign-in-token", rows: 4, autocomplete: "off", autocapitalize: "none", spellcheck: "false", required: true,
    data: { testid: "sign-in-token" },
  });
  const arrived = (token) => { keep(token); reload(); };
  const say = (words) => { answer.hidden = false; answer.textContent = words; };
  root.append(el("section", { class: "sign-in" },
    el("h1", { tabindex: -1 }, t("sign_in_title")),
    setting("sign-in") === "proxy" && el("div", { class: "actions" },
      el("p", { class: "lead" }, t("sign_in_proxy")),
      el("button", { type: "button", class: "button", data: { testid: "sign-in-proxy" }, on: { click: () => location.reload() } },
        t("sign_in_proxy_go"))),
    el("p", { class: "lead" }, t("sign_in_lead")),
    answer,
    el("form", { on: { submit } },
      el("label", { for: "sign-in-token" }, t("sign_in_token")), input,
      el("div", { class: "actions" },
        el("button", { type: "submit", class: "button", data: { testid: "sign-in" } }, t("sign_in")))),
    setting("development") === "true" && el("div", { class: "sign-in-dev" },
      el("p", { class: "hint" }, t("sign_in_dev")),
      el("div", { class: "actions" }, ["viewer", "operator"].map((role) =>
        el("button", { type: "button", class: "button quiet", data: { testid: `sign-in-${role}` }, on: { click: () => make(role) } },
          t(`role_${role}`)))))));

  function submit(event) {
    event.preventDefault();
    const token = input.value.trim();
    if (looksLikeToken(token)) arrived(token);
    else say(t("sign_in_no_token"));
  }

  async function make(role) {
    try {
      arrived((await api.devToken(role, role)).token);
    } catch (error) {
      say(words(error));
    }
  }
}
