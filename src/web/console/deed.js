// Deeds: what operators do, each asked for in a dialog that says what it will do and wants a reason.
// Viewers get no buttons; the API would refuse them all the same.

import { el } from "../both/dom.js";
import { parseMoney } from "../both/format.js";
import { role } from "../both/identity.js";
import { t } from "../both/language.js";
import { Problem } from "./api.js";
import { Refused, words } from "./trouble.js";

export const mayAct = () => role() === "operator";

/** A button that opens a deed; nothing for viewers. */
export const deedButton = (text, onClick, { danger = false, testid, disabled = false } = {}) => mayAct() &&
  el("button", {
    type: "button", class: danger ? "button warns" : "button quiet", disabled, data: { testid }, on: { click: onClick },
  }, text);

/**
 * Asks in a dialog. `fields`: `[{name, label, kind, value, options, required, hint}]`, `kind` one of `text`, `long`,
 * `json`, `number`, `money` (typed in yuan, read as fen), `moment` (China's time), `choice`; `about`: what stands above
 * them. A field with `only(values)` is asked for only where that holds. `act(values)` does it, and may give what comes after the dialog; its trouble is shown in the dialog, which stays
 * open for another try. Escape, or "back", changes nothing.
 */
export function ask({ title, lead, about, fields = [], confirm, danger = false, act }) {
  const inputs = fields.map(input);
  const trouble = el("p", { class: "trouble-line", role: "alert", hidden: true });
  const go = el("button", { type: "submit", class: danger ? "button danger" : "button", data: { testid: "confirm" } }, confirm);
  const opener = document.activeElement;
  const dialog = el("dialog", { class: "deed", "aria-labelledby": "deed-title" },
    el("form", { on: { submit, input: () => { trouble.hidden = true; reveal(); } } },
      el("h2", { id: "deed-title" }, title), lead && el("p", { class: "lead" }, lead), about,
      inputs.map(({ node }) => node), trouble,
      el("div", { class: "actions" }, go,
        el("button", { type: "button", class: "button quiet", on: { click: () => dialog.close() } }, t("back")))));
  dialog.addEventListener("close", () => { dialog.remove(); opener?.focus?.(); });
  const reveal = () => {
    const typed = Object.fromEntries(inputs.map(({ name, typed: now }) => [name, now()]));
    for (const { node, only } of inputs) node.hidden = Boolean(only) && !only(typed);
  };
  reveal();
  document.body.append(dialog);
  dialog.showModal();

  async function submit(event) {
    event.preventDefault();
    go.disabled = true;
    trouble.hidden = true;
    try {
      const next = await act(Object.fromEntries(inputs.map(({ name, read }) => [name, read()])));
      dialog.close();
      next?.();
    } catch (error) {
      go.disabled = false;
      trouble.hidden = false;
      trouble.textContent = error instanceof Problem ? `${words(error)} ${error.message}` : words(error);
    }
  }
}

export const reasonField = () => ({ name: "reason", label: t("reason_why"), kind: "long", required: true });

const TYPES = { number: "number", moment: "datetime-local" };

const READ = {
  number: Number,
  moment: (typed) => `${typed}:00+08:00`,
  money: (typed) => {
    const fen = parseMoney(typed);
    if (fen === null) throw new Refused(t("money_mistyped"));
    return fen;
  },
};

function input({ name, label, kind = "text", value = "", options = [], required = false, hint, min, max, only }) {
  const common = { id: `deed-${name}`, name, required, data: { testid: `field-${name}` } };
  const control = kind === "long" ? el("textarea", { ...common, rows: 3, maxlength: 500 }, value)
    : kind === "json" ? el("textarea", { ...common, rows: 8, spellcheck: "false", class: "code" }, value)
    : kind === "choice" ? el("select", common, options.map(([key, text]) => el("option", { value: key }, text)))
    : el("input", { ...common, type: TYPES[kind] ?? "text", inputmode: kind === "money" ? "decimal" : null, value, min, max });
  const typed = () => control.value.trim();
  const read = () => node.hidden || typed() === "" ? undefined : (READ[kind] ?? String)(typed());
  const node = el("div", { class: "field" },
    el("label", { for: `deed-${name}` }, label), control, hint && el("p", { class: "hint" }, hint));
  return { name, typed, read, node, only };
}
