// One wish to book, and its Idempotency-Key: made once per click, kept until the API has answered,
// so that a retry, a reload or an impatient second click is always the same order.

import { user } from "./identity.js";

const STORE = "holdfast.intent";
let held = null;

/**
 * Begins the wish to book `seat` (a number, or null for any) of `session`. An unanswered one stays
 * and is returned instead, `earlier` if it is for something else: it must be settled first, since
 * it may already have been heard.
 */
export function begin(session, seat) {
  const body = {
    schedule_id: session.schedule_id,
    amount_fen: session.price_fen,
    ...(seat === null ? {} : { seat_no: seat }),
  };
  const before = pending();
  if (before) return Object.assign(before, { earlier: JSON.stringify(before.body) !== JSON.stringify(body) });
  held = { key: newKey(), body, session, user: user(), at: Date.now() };
  try { sessionStorage.setItem(STORE, JSON.stringify(held)); } catch { /* private mode: safe until a reload */ }
  return held;
}

/** The unanswered wish of this user, or null. */
export function pending() {
  if (!held) {
    try { held = JSON.parse(sessionStorage.getItem(STORE)); } catch { held = null; }
  }
  return held?.user === user() ? held : null;
}

/** The API has answered, or the customer gave the wish up. */
export function settle() {
  held = null;
  try { sessionStorage.removeItem(STORE); } catch { /* nothing was kept */ }
}

// Not crypto.randomUUID(): it is missing where the page is served without TLS.
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
