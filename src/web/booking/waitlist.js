// The waiting list of a session that is full: join, one's place, leave; and the offer, which is an
// order that appears by itself when a seat comes free, held for its fifteen minutes like any other.

import * as api from "./api.js";
import { question } from "./confirm.js";
import { announce, el } from "../both/dom.js";
import { time } from "./format.js";
import { t } from "../both/language.js";
import { message } from "./notice.js";
import { repeat } from "../both/pace.js";

const EVERY = 3_000;
const OFFERED = ["held", "awaiting_payment"];
/** While the customer is deciding or the API is deciding, what was read before is not shown any more. */
const BUSY = ["joining", "asking", "leaving"];

/** `{node, waits(), update(full)}`: shown while the session is full, or while it has a place or an offer to tell. */
export function waitlist(id, { signal, retitle }) {
  const title = el("h2", { id: "waitlist-title" });
  const text = el("p");
  const room = el("div");
  const trouble = el("p", { class: "lost", role: "alert", hidden: true });
  const node = el("section", {
    class: "waitlist", "aria-labelledby": "waitlist-title", hidden: true, data: { testid: "waitlist" },
  }, title, text, trouble, room);
  let full = false;
  let state = "unknown"; // then out, in or offered, by way of BUSY ones
  let place = null;
  let offer = null;

  const read = async () => {
    if (BUSY.includes(state) || (!full && !["in", "offered"].includes(state))) return;
    const before = state;
    const { position } = await api.waitingPlace(id, signal);
    const order = position === null ? await offered(before) : null;
    // The customer may have clicked meanwhile; then what was read is old.
    if (signal.aborted || state !== before) return;
    if (position !== null) become("in", { position });
    else if (order) become("offered", { order });
    else if (before !== "in" || place !== null) become("out");
  };
  repeat(read, { every: EVERY, signal });

  /** Asked for only when there may be one: at first, and once there was a place or an offer. */
  async function offered(before) {
    if (!["unknown", "in", "offered"].includes(before)) return null;
    const { items } = await api.orders(undefined, signal);
    return items.find((order) => order.schedule_id === id && OFFERED.includes(order.status)) ?? null;
  }

  function become(next, { position = null, order = null } = {}) {
    const news = next !== state || position !== place || order?.order_id !== offer?.order_id;
    [state, place, offer] = [next, position, order];
    if (!news) return;
    paint();
    if (state === "in" && place) announce(t("waitlist_place", { n: place }));
    if (state === "offered") {
      announce(`${t("waitlist_offer")} ${text.textContent}`);
      retitle?.(t("waitlist_offer"));
    }
  }

  function paint() {
    node.hidden = !full && ["unknown", "out"].includes(state);
    node.dataset.state = state;
    const said = {
      in: () => [place ? t("waitlist_place", { n: place }) : t("waitlist_in"), t("waitlist_in_text"),
        button("quiet", "waitlist-leave", t("waitlist_leave"), leave)],
      offered: () => [t("waitlist_offer"),
        offer.hold_expires_at ? t("waitlist_offer_text", { time: time(offer.hold_expires_at) }) : t("awaiting_payment_text"),
        el("a", { class: "button", href: `#/orders/${encodeURIComponent(offer.order_id)}`, data: { testid: "offer" } },
          t("remind_pay_go"))],
      unknown: () => [t("full"), t("waitlist_text"), el("div", { class: "waiting", "aria-hidden": "true" })],
      out: () => [t("full"), t("waitlist_text"), button("", "waitlist-join", t("waitlist_join"), join)],
      joining: () => [t("full"), t("waitlist_joining"), el("div", { class: "waiting", "aria-hidden": "true" })],
      leaving: () => [t("waitlist_leave"), t("waitlist_leaving"), el("div", { class: "waiting", "aria-hidden": "true" })],
      asking: () => [place ? t("waitlist_place", { n: place }) : t("waitlist_in"), "", ""],
    };
    const [heading, words, way] = said[state]();
    title.textContent = heading;
    text.textContent = words;
    text.hidden = words === "";
    room.replaceChildren(way);
  }

  const button = (kind, testid, words, click) =>
    el("button", { type: "button", class: `button ${kind}`, data: { testid }, on: { click } }, words);

  const join = () => change("joining", api.joinWaitlist, "in", "out", null);

  function leave() {
    const position = place;
    const asked = question({
      title: t("waitlist_leave_title"), text: t("waitlist_leave_text"), yes: t("waitlist_leave"), no: t("waitlist_stay"),
      onYes: () => change("leaving", api.leaveWaitlist, "unknown", "in", position),
      onNo: () => become("in", { position }),
    });
    become("asking", { position });
    room.replaceChildren(asked.node);
    asked.focus();
  }

  async function change(meanwhile, deed, after, otherwise, position) {
    trouble.hidden = true;
    become(meanwhile);
    try {
      const answer = await deed(id, signal);
      become(after, { position: answer.position });
      if (after === "unknown") await read(); // an offer may have come first
    } catch (error) {
      if (signal.aborted) return;
      if (BUSY.includes(state)) become(otherwise, { position });
      trouble.textContent = message(error);
      trouble.hidden = false;
    }
    room.querySelector("button")?.focus();
  }

  return {
    node,
    update(isFull) {
      if (isFull === full) return;
      full = isFull;
      paint();
      if (full) read().catch(() => { /* asked again soon */ });
    },
  };
}
