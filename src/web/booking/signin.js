// Nobody is signed in. In development the API makes a token for any name; elsewhere the page says
// where a customer gets one.

import * as api from "./api.js";
import { el, setting } from "../both/dom.js";
import { keep } from "../both/identity.js";
import { t } from "../both/language.js";
import { message } from "./notice.js";

export function signInView({ root, retitle, reload, refused }) {
  retitle(t("sign_in"));
  const answer = el("p", { class: "lost", role: "alert", hidden: !refused }, refused ? t("sign_in_again") : "");
  if (setting("development") !== "true") {
    root.append(el("section", { class: "sign-in", data: { testid: "sign-in-elsewhere" } },
      el("h1", { tabindex: -1 }, t("sign_in_wanted")), el("p", { class: "lead" }, t("sign_in_absent")), answer));
    return;
  }

  const input = el("input", {
    id: "sign-in-user", name: "user", type: "text", autocomplete: "username", autocapitalize: "none",
    spellcheck: "false", required: true, maxlength: 64, data: { testid: "sign-in-user" },
  });
  const button = el("button", { type: "submit", class: "button", data: { testid: "sign-in" } }, t("sign_in"));
  root.append(el("form", { class: "sign-in", on: { submit } },
    el("h1", { tabindex: -1 }, t("sign_in_title")),
    el("p", { class: "lead" }, t("sign_in_lead")),
    answer,
    el("label", { for: "sign-in-user" }, t("sign_in_user")),
    el("div", { class: "field-row" }, input, button)));

  async function submit(event) {
    event.preventDefault();
    button.disabled = true;
    try {
      const { token } = await api.devToken(input.value.trim());
      keep(token);
      reload();
    } catch (error) {
      button.disabled = false;
      answer.hidden = false;
      answer.textContent = message(error);
    }
  }
}
