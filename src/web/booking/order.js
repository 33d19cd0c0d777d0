// One order, from its place in the line to the ticket, as it changes. Its id is in the address,
// so a reload in the middle of paying comes back to the same QR code.

import { alternatives } from "./alternatives.js";
import { Problem } from "./api.js";
import { find } from "./catalogue.js";
import { el } from "./dom.js";
import { follow } from "./events.js";
import { factList } from "./facts.js";
import { t } from "./language.js";
import { notice, troubleLine } from "./notice.js";
import { payPanel } from "./pay.js";
import { describe, statusBlock } from "./status.js";
import { ticket } from "./ticket.js";

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

export function orderView({ root, signal: outer, id, go, retitle, reload }) {
  const stop = new AbortController();
  outer.addEventListener("abort", () => stop.abort());
  const { signal } = stop;

  const status = statusBlock();
  const trouble = troubleLine();
  const room = el("div", { class: "room" });
  const facts = el("div");
  root.append(el("a", { class: "back", href: "#/orders" }, t("nav_orders")), status.node, trouble.node, room, facts);

  let session = null;
  let current = null;
  let pay = null;
  let asked = false;

  if (handed?.order_id === id) show(handed);
  else status.show({ status: "loading", step: 0, tone: "wait", title: t("loading"), text: "" });
  handed = null;
  follow(id, { signal, onOrder: show, onTrouble });

  function show(order) {
    current = order;
    if (!asked) {
      asked = true;
      find(order.schedule_id)
        .then((found) => { session = found; if (found && !signal.aborted) show(current); })
        .catch(() => { /* the order is shown without its course's name */ });
    }
    const told = describe(order);
    retitle(told.title);
    status.show({ ...told, status: order.status });
    status.node.hidden = false;
    const payable = ["awaiting_payment", "lapsed"].includes(order.status);
    if (pay && !(payable && pay.codeUrl === order.code_url)) {
      pay.stop();
      pay = null;
    }
    if (!payable) {
      room.replaceChildren(...content(order, told));
    } else if (!pay) {
      pay = payPanel(order, signal);
      room.replaceChildren(pay.node);
    }
    pay?.update(order);
    facts.replaceChildren(order.status === "confirmed" ? "" : factList(order, session)); // the ticket has them itself
  }

  function content(order, told) {
    if (order.status === "confirmed") return [ticket(order, session)];
    if (told.tone === "wait") return [el("div", { class: "waiting", "aria-hidden": "true" })];
    const here = session ?? { schedule_id: order.schedule_id, price_fen: order.amount_fen };
    const way = order.status === "rejected"
      ? { href: "#/", text: t("back") }
      : { href: `#/schedules/${encodeURIComponent(order.schedule_id)}`, text: t("book_again") };
    return [
      order.alternatives ? alternatives(order.alternatives, here, go) : "",
      el("div", { class: "actions" }, el("a", { class: "button quiet", href: way.href }, way.text)),
    ];
  }

  function onTrouble(error) {
    if (error instanceof Problem && error.status === 404) {
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
