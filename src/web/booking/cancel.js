// The way out of an order that is not paid. The API only takes the wish: WeChat closes the order
// first, so it may still turn out to be paid, and the order itself tells how it ended.

import * as api from "./api.js";
import { question } from "./confirm.js";
import { announce, el } from "../both/dom.js";
import { t } from "../both/language.js";
import { message, requestId } from "./notice.js";

const UNPAID = ["submitted", "held", "awaiting_payment", "lapsed"];

/** `{node, asked(), update(order)}`; `onSent()` when the wish is in the line, `onPaid()` when it came too late. */
export function cancelling(id, { signal, onSent, onPaid }) {
  const node = el("div", { class: "no-print", hidden: true });
  const open = el("button", {
    type: "button", class: "link", data: { testid: "cancel" }, on: { click: confirm },
  }, t("cancel"));
  let seat = false;
  let sent = false;
  offer();

  function offer() {
    node.replaceChildren(el("p", { class: "way-out" }, open));
  }

  function confirm() {
    const asked = question({
      title: t("cancel_title"),
      text: t(seat ? "cancel_text" : "cancel_text_lapsed"),
      yes: t("cancel_yes"),
      no: t("cancel_no"),
      onYes: send,
      onNo() {
        offer();
        open.focus();
      },
    });
    node.replaceChildren(asked.node);
    asked.focus();
  }

  async function send() {
    working();
    try {
      await api.cancelOrder(id, signal);
      sent = true;
      onSent();
    } catch (error) {
      if (signal.aborted || error.status === 401) return;
      if (error.slug === "already-paid") {
        sent = true;
        return onPaid();
      }
      node.replaceChildren(el("section", { class: "notice", role: "alert" },
        el("p", {}, message(error)),
        el("div", { class: "actions" },
          el("button", { type: "button", class: "button", data: { testid: "retry" }, on: { click: send } }, t("retry")),
          el("button", { type: "button", class: "button quiet", on: { click: offer } }, t("cancel_no"))),
        requestId(error)));
    }
  }

  function working() {
    announce(t("cancelling"));
    node.replaceChildren(el("section", { class: "deed", data: { testid: "cancelling" } },
      el("p", {}, t("cancelling")), el("div", { class: "waiting", "aria-hidden": "true" })));
  }

  return {
    node,
    asked: () => sent,
    update(order) {
      seat = order.status !== "lapsed";
      node.hidden = !UNPAID.includes(order.status);
    },
  };
}
