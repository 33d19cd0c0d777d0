// The QR code and the time that is left: first of the hold, after it of the payment. The image needs the token, so it is fetched and shown
// as a data: URL; the countdown follows the server's clock, not the device's.

import * as api from "./api.js";
import { now } from "../both/clock.js";
import { announce, el, setting, svg } from "../both/dom.js";
import { clockFace, money, time } from "./format.js";
import { count, t } from "../both/language.js";
import { message } from "./notice.js";
import { backoff, pause, repeat } from "../both/pace.js";

const SAID_AT = [5, 1]; // minutes left that a screen reader hears of
const SEATS_EVERY = 5_000;

/** `{node, codeUrl, update(order), stop()}` for an order that can be paid. */
export function payPanel(order, outer) {
  const ended = new AbortController();
  const stop = () => ended.abort();
  outer.addEventListener("abort", stop);
  const { signal } = ended;

  const frame = el("div", { class: "qr-frame" }, el("p", { class: "hint" }, t("pay_loading")));
  const face = el("strong", { class: "clock", role: "timer", "aria-live": "off", data: { testid: "countdown" } });
  const bar = el("progress", { class: "gauge", "aria-hidden": "true" });
  const label = el("span", { class: "clock-label" }, t("pay_left"));
  const until = el("p", { class: "hint" });
  const seats = el("p", { class: "still", hidden: true, data: { testid: "still-free" } });
  const timer = el("div", { class: "timer" }, label, face, bar, until);
  const phone = phoneLink(order.code_url);
  const node = el("section", { class: "pay" },
    el("figure", { class: "qr", data: { testid: "code-url", codeUrl: order.code_url ?? "" } }, frame,
      el("figcaption", {}, scanIcon(), t("pay_scan"))),
    el("div", { class: "pay-side" },
      el("p", { class: "amount" }, el("span", {}, t("pay_amount")), el("strong", {}, money(order.amount_fen))),
      timer,
      seats,
      el("p", { class: "hint" }, t("pay_scan_hint")),
      phone));

  let deadline = NaN;
  let begun = NaN;
  let lapsed = false;
  const said = new Set();
  show();
  tick();
  repeat(countSeats, { every: SEATS_EVERY, signal });

  async function show() {
    for (let failures = 1; !signal.aborted; failures += 1) {
      try {
        const image = await api.qr(order.order_id, signal);
        frame.replaceChildren(el("img", {
          src: `data:image/svg+xml;charset=utf-8,${encodeURIComponent(image)}`, width: 240, height: 240,
          alt: t("qr_alt", { amount: money(order.amount_fen) }), data: { testid: "qr" },
        }));
        return;
      } catch (error) {
        if (signal.aborted) return;
        // "Not payable" may be a read that lags behind the news; if it stays so, the news will end this panel.
        frame.replaceChildren(el("p", { class: "hint" }, `${t("pay_broken")} ${message(error)}`));
        await pause(backoff(failures, { most: 10_000, retryAfter: error.retryAfter }), signal);
      }
    }
  }

  async function tick() {
    while (!signal.aborted) {
      const left = deadline - now();
      paint(left);
      await pause(left > 0 ? left % 1000 || 1000 : 1000, signal);
    }
  }

  /** Without a hold, whether a payment still gets a seat is what the customer needs to know. */
  async function countSeats() {
    if (!lapsed) return;
    const { available } = await api.availability(order.schedule_id, signal);
    seats.textContent = available > 0 ? count("still_free", available) : t("still_none");
    seats.hidden = false;
  }

  function paint(left) {
    if (Number.isNaN(left)) return;
    face.textContent = clockFace(left);
    bar.value = Math.max(0, left);
    label.textContent = t(left <= 0 ? "pay_over" : lapsed ? "pay_left_lapsed" : "pay_left");
    node.classList.toggle("hurry", left > 0 && left <= 120_000);
    node.classList.toggle("over", left <= 0);
    const minutes = Math.ceil(left / 60_000);
    if (left > 0 && SAID_AT.includes(minutes) && !said.has(minutes)) {
      said.add(minutes);
      announce(count("pay_left_minutes", minutes));
    }
  }

  return {
    node,
    codeUrl: order.code_url,
    stop,
    update(next) {
      lapsed = next.status === "lapsed";
      node.classList.toggle("lapsed", lapsed);
      if (lapsed && seats.hidden) countSeats().catch(() => { /* asked again soon */ });
      const end = lapsed ? next.pay_before : next.hold_expires_at ?? next.pay_before;
      deadline = Date.parse(end ?? "");
      begun = Date.parse(next.created_at ?? "");
      bar.max = deadline > begun ? deadline - begun : 1;
      until.textContent = t(lapsed ? "pay_until" : "hold_until", { time: time(end) });
      timer.hidden = Number.isNaN(deadline);
      paint(deadline - now());
    },
  };
}

/** In development the API names the simulator's phone, which can pay without a real WeChat. */
function phoneLink(codeUrl) {
  const phone = setting("phone");
  if (!/^https?:/.test(phone) || !codeUrl) return null;
  return el("a", {
    class: "link", target: "_blank", rel: "noopener", data: { testid: "open-phone" },
    href: `${phone}?${new URLSearchParams({ code_url: codeUrl })}`,
  }, t("open_phone"));
}

const scanIcon = () =>
  svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" },
    svg("path", {
      d: "M4 8V6a2 2 0 0 1 2-2h2M16 4h2a2 2 0 0 1 2 2v2M20 16v2a2 2 0 0 1-2 2h-2M8 20H6a2 2 0 0 1-2-2v-2M4 12h16",
    }));
