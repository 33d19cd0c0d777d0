// The requests that the booking page makes.

import { query, read, send } from "../both/http.js";

export { NoAnswer, Problem } from "../both/http.js";

export const schedules = ({ cursor, from, signal } = {}) => read(`/v1/schedules${query({ cursor, from })}`, { signal });

export const schedule = (id, signal) => read(`/v1/schedules/${encodeURIComponent(id)}`, { signal });

export const availability = (id, signal) => read(`/v1/schedules/${encodeURIComponent(id)}/availability`, { signal });

export const orders = (cursor, signal) => read(`/v1/orders${query({ cursor })}`, { signal });

export const order = (id, signal) => read(orderPath(id), { signal });

/** The payment QR code as SVG text; an `<img>` cannot send the token itself. */
export const qr = (id, signal) =>
  send(`${orderPath(id)}/qr.svg`, { signal, accept: "image/svg+xml", take: (answer) => answer.text() });

/** Places an order. The same key is the same order, however often this is called. */
export const placeOrder = (body, key, signal) =>
  read("/v1/orders", { method: "POST", body, signal, headers: { "Idempotency-Key": key, Prefer: "wait=5" } });

/** Harmless to repeat. What came of it is told by the order. */
export const cancelOrder = (id, signal) => read(`${orderPath(id)}/cancel`, { method: "POST", signal });

/** Asks for money back. The same key is the same refund, however often this is called. */
export const requestRefund = (id, body, key, signal) =>
  read(`${orderPath(id)}/refunds`, { method: "POST", body, signal, headers: { "Idempotency-Key": key } });

/** What the customer would take back now: `{allowed, amount_fen, percent, until, refusal}`. */
export const refundPreview = (id, signal) => read(`${orderPath(id)}/refunds/preview`, { signal });

export const refunds = (id, cursor, signal) => read(`${orderPath(id)}/refunds${query({ cursor })}`, { signal });

export const notifications = (id, signal) => read(`${orderPath(id)}/notifications`, { signal });

/** The customer's place among those who wait for a seat: read, taken, or given up; `{position}`. */
export const waitingPlace = (id, signal) => read(waitlistPath(id), { signal });
export const joinWaitlist = (id, signal) => read(waitlistPath(id), { method: "POST", signal });
export const leaveWaitlist = (id, signal) => read(waitlistPath(id), { method: "DELETE", signal });

/** A token for `user`, from an API that runs with development settings. */
export const devToken = (user) => read("/dev/token", { method: "POST", body: { user } });

/** The order's open event stream, to be read by the caller for as long as it lasts. */
export const orderEvents = (id, lastEventId, signal) =>
  send(`${orderPath(id)}/events`, {
    signal,
    accept: "text/event-stream",
    headers: lastEventId ? { "Last-Event-ID": lastEventId } : {},
    lasting: true,
    take: (answer) => answer.body,
  });

const orderPath = (id) => `/v1/orders/${encodeURIComponent(id)}`;

const waitlistPath = (id) => `/v1/schedules/${encodeURIComponent(id)}/waitlist`;
