// The form that gives a booking back. How much goes back follows from the session's rules, and is told before. Sent under one key until the API has answered, so that no click pays twice.

import * as api from "./api.js";
import { announce, el } from "../both/dom.js";
import { moment, money } from "./format.js";
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

  /** Asks the API first: how much goes back follows from the rules of the session and the time. */
  async function ask() {
    const heading = el("h2", { id: "refund-title", tabindex: -1 }, t("refund_title"));
    node.replaceChildren(heading, el("div", { class: "waiting", "aria-hidden": "true" }));
    let share;
    try {
      share = await api.refundPreview(id, signal);
    } catch (error) {
      if (!signal.aborted) refused(error);
      return;
    }
    if (!share.allowed) {
      node.replaceChildren(heading, el("p", { role: "status" }, t("refund_over")),
        el("div", { class: "actions" }, closing()));
      return;
    }
    const reason = el("select", { id: "refund-reason", data: { testid: "refund-reason" } },
      PRESETS.map((key) => el("option", { value: key }, t(key))));
    const submit = (event) => {
      event.preventDefault();
      beginRefund(id, { reason: t(reason.value) });
      deliver();
    };
    const amount = money(share.amount_fen);
    const words = share.percent < 100 ? t("refund_share", { amount, percent: share.percent }) : t("refund_whole", { amount });
    node.replaceChildren(el("form", { novalidate: true, on: { submit } },
      heading,
      el("p", {}, el("strong", {}, words), " ", t("refund_whole_hint")),
      share.until ? el("p", { class: "hint" }, t("refund_until", { time: moment(share.until) })) : "",
      el("div", { class: "field" }, el("label", { for: "refund-reason" }, t("refund_reason")), reason),
      el("div", { class: "actions" },
        el("button", { type: "submit", class: "button", data: { testid: "refund-send" } }, t("refund_send_whole")),
        closing())));
  }

  const closing = () =>
    el("button", { type: "button", class: "button quiet", data: { testid: "refund-close" }, on: { click: onClose } },
      t("refund_close"));

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
