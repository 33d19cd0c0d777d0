// Deeds: what operators do, each asked for in a dialog that says what it will do and wants a reason.
// Viewers get no buttons; the API would refuse them all the same.

import { el } from "../both/dom.js";
import { role } from "../both/identity.js";
import { t } from "../both/language.js";
import { Problem } from "./api.js";
import { words } from "./trouble.js";

export const mayAct = () => role() === "operator";

/** A button that opens a deed; nothing for viewers. */
export const deedButton = (text, onClick, { danger = false, testid, disabled = false } = {}) => mayAct() &&
  el("button", {
    type: "button", class: danger ? "button warns" : "button quiet", disabled, data: { testid }, on: { click: onClick },
  }, text);

/**
 * Asks in a dialog. `fields`: `[{name, label, kind, value, options, required, hint}]`, `kind` one of `text`, `long`,
 * `number`, `choice`. `act(values)` does it; its trouble is shown in the dialog, which stays open for another try.
 * Escape, or cancel, changes nothing.
 */
export function ask({ title, lead, fields = [], confirm, danger = false, act }) {
  const inputs = fields.map(input);
  const trouble = el("p", { class: "trouble-line", role: "alert", hidden: true });
  const go = el("button", { type: "submit", class: danger ? "button danger" : "button", data: { testid: "confirm" } }, confirm);
  const opener = document.activeElement;
  const dialog = el("dialog", { class: "deed", "aria-labelledby": "deed-title" },
    el("form", { on: { submit } },
      el("h2", { id: "deed-title" }, title), lead && el("p", { class: "lead" }, lead),
      inputs.map(({ node }) => node), trouble,
      el("div", { class: "actions" }, go,
        el("button", { type: "button", class: "button quiet", on: { click: () => dialog.close() } }, t("cancel")))));
  dialog.addEventListener("close", () => { dialog.remove(); opener?.focus?.(); });
  document.body.append(dialog);
  dialog.showModal();

  async function submit(event) {
    event.preventDefault();
    go.disabled = true;
    trouble.hidden = true;
    try {
      await act(Object.fromEntries(inputs.map(({ name, read }) => [name, read()])));
      dialog.close();
    } catch (error) {
      go.disabled = false;
      trouble.hidden = false;
      trouble.textContent = error instanceof Problem ? `${words(error)} ${error.message}` : words(error);
    }
  }
}

export const reasonField = () => ({ name: "reason", label: t("reason_why"), kind: "long", required: true });

function input({ name, label, kind = "text", value = "", options = [], required = false, hint, min, max }) {
  const common = { id: `deed-${name}`, name, required, data: { testid: `field-${name}` } };
  const control = kind === "long" ? el("textarea", { ...common, rows: 3, maxlength: 500 }, value)
    : kind === "json" ? el("textarea", { ...common, rows: 8, spellcheck: "false", class: "code" }, value)
    : kind === "choice" ? el("select", common, options.map(([key, text]) => el("option", { value: key }, text)))
    : el("input", { ...common, type: kind === "number" ? "number" : "text", value, min, max });
  const read = () => {
    const typed = control.value.trim();
    if (kind === "number") return typed === "" ? undefined : Number(typed);
    return typed === "" ? undefined : typed;
  };
  const node = el("div", { class: "field" },
    el("label", { for: `deed-${name}` }, label), control, hint && el("p", { class: "hint" }, hint));
  return { name, read, node };
}
