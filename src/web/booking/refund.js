// The form that asks for money back: all of it, which gives the seat up, or a part, which keeps it.
// Both are told before. Sent under one key until the API has answered, so that no click pays twice.

import * as api from "./api.js";
import { announce, el } from "../both/dom.js";
import { money, parseMoney } from "./format.js";
import { beginRefund, pendingRefund, settleRefund } from "./intent.js";
import { t } from "../both/language.js";
import { message, requestId } from "./notice.js";
import { PRESETS } from "./reasons.js";

/** `{node, limit(fen)}`: `onTaken(receipt)` when the wish is in the line, `onClose()` when given up. */
export function refundForm(id, left, { signal, onTaken, onClose }) {
  let most = left;
  const node = el("section", { class: "deed refund", "aria-labelledby": "refund-title", data: { testid: "refund-form" } });
  if (pendingRefund(id)) doubt(null);
  else ask();

  function ask() {
    const whole = choice("whole", true);
    const part = choice("part", false);
    const sum = el("input", {
      id: "refund-sum", inputmode: "decimal", autocomplete: "off", maxlength: 12, placeholder: "0.00",
      "aria-describedby": "refund-wrong", data: { testid: "refund-sum" },
    });
    const wrong = el("p", { class: "lost", id: "refund-wrong", role: "alert", hidden: true });
    const reason = el("select", { id: "refund-reason", data: { testid: "refund-reason" } },
      PRESETS.map((key) => el("option", { value: key }, t(key))));
    const send = el("button", { type: "submit", class: "button", data: { testid: "refund-send" } });
    const partly = el("div", { class: "refund-part", hidden: true },
      el("label", { for: "refund-sum" }, t("refund_sum", { most: money(most) })),
      el("div", { class: "sum" }, el("span", { "aria-hidden": "true" }, "¥"), sum), wrong);
    const heading = el("h2", { id: "refund-title", tabindex: -1 }, t("refund_title"));
    const show = () => {
      partly.hidden = whole.checked;
      wrong.hidden = true;
      sum.removeAttribute("aria-invalid");
      const fen = whole.checked ? most : parseMoney(sum.value);
      send.textContent = whole.checked || fen === most ? t("refund_send_whole") : t("refund_send_part");
    };
    const submit = (event) => {
      event.preventDefault();
      const fen = whole.checked ? null : parseMoney(sum.value);
      if (!whole.checked && !(fen > 0 && fen <= most)) {
        wrong.textContent = t("refund_sum_wrong", { most: money(most) });
        wrong.hidden = false;
        sum.setAttribute("aria-invalid", "true");
        sum.focus();
        return;
      }
      beginRefund(id, { ...(fen === null ? {} : { amount_fen: fen }), reason: t(reason.value) });
      deliver();
    };
    node.replaceChildren(el("form", { novalidate: true, on: { submit, change: show, input: show } },
      heading,
      el("fieldset", {}, el("legend", { class: "unseen" }, t("refund_how_much")),
        option(whole, t("refund_whole", { amount: money(most) }), t("refund_whole_hint")),
        option(part, t("refund_part"), t("refund_part_hint"))),
      partly,
      el("div", { class: "field" }, el("label", { for: "refund-reason" }, t("refund_reason")), reason),
      el("div", { class: "actions" }, send,
        el("button", { type: "button", class: "button quiet", data: { testid: "refund-close" }, on: { click: onClose } },
          t("refund_close")))));
    show();
  }

  async function deliver() {
    const wish = pendingRefund(id);
    announce(t("refund_sending"));
    node.replaceChildren(el("p", {}, t("refund_sending")), el("div", { class: "waiting", "aria-hidden": "true" }));
    try {
      const receipt = await api.requestRefund(id, wish.body, wish.key, signal);
      settleRefund(id);
      onTaken({ ...receipt, reason: wish.body.reason });
    } catch (error) {
      if (signal.aborted || error.status === 401) return;
      if (error instanceof api.Problem && !error.passing) {
        settleRefund(id);
        refused(error);
      } else {
        doubt(error);
      }
    }
  }

  /** No answer, now or before a reload: the same wish again, and never a second refund. */
  function doubt(error) {
    node.replaceChildren(el("div", { role: "alert" },
      el("h2", {}, t("doubt_title")),
      el("p", {}, error ? message(error) : ""), el("p", {}, t("refund_doubt")),
      el("div", { class: "actions" },
        el("button", { type: "button", class: "button", data: { testid: "retry" }, on: { click: deliver } }, t("retry")),
        el("button", { type: "button", class: "button quiet", on: { click: onClose } }, t("refund_later"))),
      requestId(error)));
  }

  function refused(error) {
    node.replaceChildren(el("div", { role: "alert" },
      el("h2", {}, t("trouble_title")), el("p", {}, message(error)),
      el("div", { class: "actions" },
        el("button", { type: "button", class: "button quiet", on: { click: ask } }, t("refund_again")),
        el("button", { type: "button", class: "button quiet", on: { click: onClose } }, t("refund_close"))),
      requestId(error)));
  }

  return {
    node,
    /** Less may be left than when the form was opened. */
    limit(fen) {
      if (fen === most) return;
      most = fen;
      if (node.querySelector("form")) ask();
    },
    focus() {
      node.querySelector("h2")?.focus({ preventScroll: true });
      node.scrollIntoView({ block: "nearest" });
    },
  };
}

const choice = (value, checked) =>
  el("input", { type: "radio", name: "refund-how-much", value, checked, data: { testid: `refund-${value}` } });

const option = (input, title, hint) =>
  el("label", { class: "option" }, input, el("span", {}, el("strong", {}, title), el("small", {}, hint)));
