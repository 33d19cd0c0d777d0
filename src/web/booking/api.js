// Every request to the API, and what can come of it: an answer, a `Problem` the server explains,
// or `NoAnswer`, after which nothing is known about what the server did.

import { learn } from "./clock.js";
import { forget, token } from "./identity.js";
import { acceptLanguage } from "./language.js";

const PATIENCE = 15_000;

/** The server said no. `slug` is the last part of its RFC 9457 `type`. */
export class Problem extends Error {
  constructor(status, document, retryAfter) {
    super(document.detail ?? document.title ?? `HTTP ${status}`);
    this.status = status;
    this.slug = String(document.type ?? "").split("/").pop();
    this.userMessage = document.user_message ?? "";
    this.requestId = document.request_id ?? "";
    this.orderId = document.order_id ?? null;
    this.alternatives = document.alternatives ?? null;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed later, so that asking again is right. */
  get passing() {
    return this.status >= 500 || [408, 425, 429].includes(this.status);
  }
}

/** No answer: offline, cut off, or too slow. */
export class NoAnswer extends Error {}

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

const read = (path, options) => send(path, { ...options, take: (answer) => answer.json() });

function query(values) {
  const given = Object.entries(values).filter(([, value]) => value);
  return given.length > 0 ? `?${new URLSearchParams(given)}` : "";
}

/**
 * One request, given up after `PATIENCE` unless `take` has its result by then; of a `lasting`
 * answer the body is still open then, and `signal` goes on to end it.
 */
async function send(path, { method = "GET", body, headers = {}, accept = "application/json", signal, take, lasting }) {
  const limit = new AbortController();
  const stop = () => limit.abort();
  signal?.addEventListener("abort", stop);
  const timer = setTimeout(stop, PATIENCE);
  const sent = Date.now();
  try {
    const answer = await fetch(path, {
      method,
      signal: limit.signal,
      cache: "no-store",
      credentials: "omit",
      headers: {
        Accept: accept,
        "Accept-Language": acceptLanguage(),
        ...(token() ? { Authorization: `Bearer ${token()}` } : {}),
        ...(body ? { "Content-Type": "application/json" } : {}),
        ...headers,
      },
      body: body && JSON.stringify(body),
    });
    learn(answer.headers.get("Date"), sent, Date.now());
    if (answer.ok) return await take(answer);
    throw await problem(answer);
  } catch (error) {
    if (error instanceof Problem || signal?.aborted) throw error;
    throw new NoAnswer(error.message);
  } finally {
    clearTimeout(timer);
    if (!lasting) signal?.removeEventListener("abort", stop);
  }
}

async function problem(answer) {
  const document = (await answer.json().catch(() => null)) ?? {};
  if (answer.status === 401 && token()) forget(true);
  return new Problem(answer.status, document, Number(answer.headers.get("Retry-After")) || 0);
}
