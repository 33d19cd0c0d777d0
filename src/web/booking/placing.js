// Sends the customer's wish until there is an answer. However often that takes, it is the same
// Idempotency-Key, so it is the same order; only an answer from the API settles the wish.

import * as api from "./api.js";
import { el } from "../both/dom.js";
import { factList } from "./facts.js";
import { pending, settle } from "./intent.js";
import { t } from "../both/language.js";
import { message, requestId } from "./notice.js";
import { handOver } from "./order.js";
import { backoff, looked, pause } from "../both/pace.js";
import { statusBlock } from "./status.js";

/** After this long a wish is not sent again unasked: the customer may no longer mean it. */
const STALE = 10 * 60_000;

export async function placingView({ root, signal, go, retitle }) {
  const wish = pending();
  if (!wish) return go("/", { replace: true });

  const status = statusBlock();
  const room = el("div", { class: "room" });
  const facts = el("div", {}, factList({ ...wish.body, status: "placing" }, wish.session));
  root.append(status.node, room, facts);
  if (Date.now() - wish.at > STALE) await resumed();
  await send();

  async function send() {
    for (let failures = 0; !signal.aborted;) {
      show("wait", "placing_title", t(wish.earlier ? "placing_earlier" : "placing_text"));
      room.replaceChildren(el("div", { class: "waiting", "aria-hidden": "true" }));
      let order;
      try {
        order = await api.placeOrder(wish.body, wish.key, signal);
      } catch (error) {
        if (signal.aborted || error.status === 401) return;
        if (error instanceof api.Problem && !error.passing) return error.orderId ? rejected(error) : refused(error);
        failures += 1;
        await doubt(error, failures);
        continue;
      }
      settle();
      handOver({ ...wish.body, ...order });
      return go(`/orders/${encodeURIComponent(order.order_id)}`, { replace: true });
    }
  }

  /** No answer, or "later": waits, shows that it does, and comes back to try again. */
  async function doubt(error, failures) {
    const busy = error instanceof api.Problem;
    show("wait", "doubt_title", t(busy ? "doubt_busy" : "doubt_text"));
    const wait = new AbortController();
    const stop = () => wait.abort();
    signal.addEventListener("abort", stop);
    const next = el("p", { class: "hint" });
    room.replaceChildren(
      el("section", { class: "notice" },
        el("p", {}, message(error)), next,
        el("div", { class: "actions" },
          el("button", { type: "button", class: "button", data: { testid: "retry" }, on: { click: stop } }, t("retry")),
          el("button", { type: "button", class: "button quiet", on: { click: drop } }, t("doubt_drop"))),
        el("p", { class: "hint" }, t("doubt_drop_hint")),
        requestId(error)));
    const until = Date.now() + backoff(failures, { first: 2_000, retryAfter: error.retryAfter });
    while (!wait.signal.aborted && Date.now() < until) {
      next.textContent = t("doubt_next", { n: Math.max(1, Math.ceil((until - Date.now()) / 1000)) });
      await pause(Math.min(1000, Math.max(0, until - Date.now())), wait.signal);
    }
    if (!wait.signal.aborted) await looked(wait.signal);
    signal.removeEventListener("abort", stop);
  }

  /** The order is in the books as rejected: its own view says what else there is. */
  function rejected({ orderId, slug, alternatives }) {
    settle();
    handOver({ ...wish.body, order_id: orderId, status: "rejected", reason: slug, alternatives });
    go(`/orders/${encodeURIComponent(orderId)}`, { replace: true });
  }

  /** There is no order. */
  function refused(error) {
    settle();
    show("stop", "refused_title", message(error));
    room.replaceChildren(
      el("p", { class: "hint" }, t("no_charge")),
      el("div", { class: "actions" }, el("a", { class: "button quiet", href: "#/" }, t("back"))),
      requestId(error) ?? "");
    facts.replaceChildren(factList({ ...wish.body, status: "rejected" }, wish.session));
  }

  const resumed = () => new Promise((resolve) => {
    show("wait", "resume_title", t("resume_text"));
    room.replaceChildren(el("div", { class: "actions" },
      el("button", { type: "button", class: "button", on: { click: resolve } }, t("resume_go")),
      el("button", { type: "button", class: "button quiet", on: { click: drop } }, t("doubt_drop"))));
  });

  function drop() {
    settle();
    go(`/schedules/${encodeURIComponent(wish.session.schedule_id)}`, { replace: true });
  }

  function show(tone, title, text) {
    retitle(t(title));
    status.show({ status: "placing", step: 0, tone, title: t(title), text });
  }
}
