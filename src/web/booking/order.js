// One order, from its place in the line to the ticket, as it changes. Its id is in the address,
// so a reload in the middle of paying comes back to the same QR code.

import { alternatives } from "./alternatives.js";
import * as api from "./api.js";
import { cancelling } from "./cancel.js";
import { bookable, find } from "./catalogue.js";
import { el } from "../both/dom.js";
import { follow } from "./events.js";
import { factList } from "./facts.js";
import { t } from "../both/language.js";
import { messages } from "./messages.js";
import { notice, troubleLine } from "./notice.js";
import { payPanel } from "./pay.js";
import { refunds } from "./refunds.js";
import { describe, statusBlock } from "./status.js";
import { ticket } from "./ticket.js";
import { waitlist } from "./waitlist.js";

/** With Redis away a fresh order is unknown until a worker has taken it. */
const GRACE = 60_000;
const PLACED = "holdfast.placed";
let handed = null;

/** Takes over an order just placed, so that its view need not begin empty. */
export function handOver(order) {
  handed = order;
  try {
    sessionStorage.setItem(PLACED, JSON.stringify({ id: order.order_id, at: Date.now() }));
  } catch { /* no grace after a reload */ }
}

export function orderView({ root, signal: outer, id, go, retitle, reload, refundWanted }) {
  const stop = new AbortController();
  outer.addEventListener("abort", () => stop.abort());
  const { signal } = stop;

  const status = statusBlock();
  const trouble = troubleLine();
  const room = el("div", { class: "room" });
  const facts = el("div");
  const back = refunds(id, { signal, wanted: refundWanted });
  const way = cancelling(id, { signal, onSent: () => pay?.node.classList.add("leaving"), onPaid });
  const told = messages(id, signal);
  const deeds = el("div", {}, way.node, back.node);
  root.append(el("a", { class: "back", href: "#/orders" }, t("nav_orders")), status.node, trouble.node, room, deeds,
    facts, told.node);
  told.node.hidden = true;

  let session = null;
  let current = null;
  let pay = null;
  let asked = false;
  let drawn = "";
  let line = null;

  if (handed?.order_id === id) show(handed);
  else status.show({ status: "loading", step: 0, tone: "wait", title: t("loading"), text: "" });
  handed = null;
  follow(id, { signal, onOrder: show, onTrouble });

  function show(order) {
    if (current?.version > order.version) return;
    current = order;
    if (!asked) {
      asked = true;
      find(order.schedule_id)
        .then((found) => { session = found; if (found && !signal.aborted) show(current); })
        .catch(() => { /* the order is shown without its course's name */ });
    }
    const state = describe(order);
    if (way.asked() && order.status === "confirmed") state.text = t("cancel_paid");
    retitle(state.title);
    status.show({ ...state, status: order.status });
    status.node.hidden = false;
    showRoom(order, state);
    way.update(order);
    back.update(order);
    told.update(order);
    told.node.hidden = false;
    facts.replaceChildren(order.status === "confirmed" ? "" : factList(order, session)); // the ticket has them itself
  }

  function showRoom(order, state) {
    const payable = ["awaiting_payment", "lapsed"].includes(order.status);
    if (pay && !(payable && pay.codeUrl === order.code_url)) {
      pay.stop();
      pay = null;
    }
    // What is there already stays: a customer may be about to click it.
    const wanted = payable ? `pay ${order.code_url}` : `${order.version} ${Boolean(session)}`;
    if (wanted !== drawn) {
      drawn = wanted;
      if (payable) pay = payPanel(order, signal);
      room.replaceChildren(...(payable ? [pay.node] : content(order, state)));
    }
    pay?.update(order);
  }

  function content(order, { tone }) {
    if (order.status === "confirmed") {
      const left = order.refunded_fen < order.amount_fen;
      return [ticket(order, session, left ? back.open : null)];
    }
    if (tone === "wait" && order.status !== "refunding") return [el("div", { class: "waiting", "aria-hidden": "true" })];
    const here = session ?? { schedule_id: order.schedule_id, price_fen: order.amount_fen };
    if (order.reason === "sold-out") {
      line ??= waitlist(order.schedule_id, { signal, retitle });
      line.update(true);
    }
    const next = order.status === "rejected" || !session || !bookable(session)
      ? { href: "#/", text: t("back") }
      : { href: `#/schedules/${encodeURIComponent(order.schedule_id)}`, text: t("book_again") };
    return [
      order.alternatives ? alternatives(order.alternatives, here, go) : "",
      line ? line.node : "",
      el("div", { class: "actions" }, el("a", { class: "button quiet", href: next.href }, next.text)),
    ];
  }

  /** It could not be cancelled, for it is paid: then the way out is money back. */
  async function onPaid() {
    back.open();
    try {
      show(await api.order(id, signal));
    } catch { /* the order's own news will tell */ }
  }

  function onTrouble(error) {
    if (error instanceof api.Problem && error.status === 404) {
      if (isFresh(id)) return;
      stop.abort();
      status.node.remove();
      const link = { href: "#/orders", text: t("nav_orders") };
      room.replaceChildren(notice(error, { title: t("order_missing"), link }));
    } else if (current) {
      trouble.show(error);
    } else if (error) {
      status.node.hidden = true;
      room.replaceChildren(notice(error, { onRetry: reload }));
    }
  }
}

function isFresh(id) {
  try {
    const placed = JSON.parse(sessionStorage.getItem(PLACED));
    return placed?.id === id && Date.now() - placed.at < GRACE;
  } catch {
    return false;
  }
}
