// Every promise of the system, asked of the books while one looks on. What was not answered in time is
// unknown, and said so.

import { announce, el } from "../both/dom.js";
import { locale, t } from "../both/language.js";
import { EventParser, listen } from "../both/stream.js";
import * as api from "./api.js";
import { alarm, count, heading, raw, unknown } from "./say.js";
import { notice } from "./trouble.js";

export function invariantsView({ root, signal, retitle }) {
  retitle(t("nav_invariants"));
  const button = el("button", { type: "button", class: "button", data: { testid: "verify" }, on: { click: ask } }, t("verify"));
  const progress = el("progress", { class: "gauge", hidden: true, "aria-label": t("verify_progress") });
  const verdict = el("p", { class: "verdict", role: "status", data: { testid: "verdict" } }, t("verify_never"));
  const answers = el("ul", { class: "promises", data: { testid: "promises" } });
  root.append(heading(t("invariants_title"), t("invariants_lead")),
    el("div", { class: "toolbar" }, button, verdict), progress, answers);

  async function ask() {
    button.disabled = true;
    answers.replaceChildren();
    const told = { wanted: 0, broken: 0, items: 0, end: null };
    verdict.dataset.tone = "";
    verdict.textContent = t("verify_asking");
    progress.hidden = false;
    progress.removeAttribute("value");
    try {
      await listen((line) => api.invariants(line), new EventParser(), signal, (events) => {
        for (const { name, data } of events) hear(told, name, JSON.parse(data));
      });
      if (!signal.aborted) conclude(told);
    } catch (error) {
      if (!signal.aborted) { answers.replaceChildren(notice(error, ask)); verdict.textContent = ""; }
    }
    progress.hidden = true;
    button.disabled = false;
  }

  function hear(told, name, document) {
    if (name === "begin") { told.wanted = document.items; progress.max = document.items; }
    if (name === "end") told.end = document;
    if (name !== "item") return;
    told.items += 1;
    progress.value = told.items;
    verdict.textContent = t("verify_so_far", { n: told.items, of: told.wanted });
    if (!["open_cases", "open_cancellations"].includes(document.name)) {
      if (document.broken > 0) told.broken += 1;
      answers.append(promise(document));
    }
  }

  function conclude({ wanted, items, broken, end }) {
    const missing = wanted - items;
    const whole = end?.outcome === "done" && missing === 0;
    verdict.dataset.tone = broken > 0 ? "bad" : whole ? "good" : "wait";
    verdict.textContent = broken > 0 ? t("verify_broken", { n: broken })
      : whole ? t("verify_whole", { ms: end.took_ms.toLocaleString(locale()) })
      : t("verify_part", { n: missing });
    if (!whole) answers.append(el("li", { class: "promise" }, unknown(), t(`verify_${end?.outcome ?? "cut"}`)));
    announce(verdict.textContent);
  }
}

function promise({ name, promise: words, checked, broken, rows }) {
  return el("li", { class: "promise", data: { name, tone: broken > 0 ? "bad" : "good" } },
    el("span", { class: "chip", data: { tone: broken > 0 ? "bad" : "good" } }, t(broken > 0 ? "promise_broken" : "promise_kept")),
    el("div", { class: "promise-words" }, el("strong", { class: "id" }, name), el("span", { lang: "en" }, words)),
    el("div", { class: "promise-counts" },
      el("span", {}, count(checked), " ", t("promise_checked")),
      broken > 0 && alarm(count(broken), " ", t("promise_breaking"))),
    rows.length > 0 && el("details", { open: true }, el("summary", {}, t("promise_rows", { n: rows.length })),
      rows.map((row) => raw(row))));
}
