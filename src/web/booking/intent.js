// Wishes and their Idempotency-Keys: made once per click, kept until the API has answered, so that
// a retry, a reload or an impatient second click is always the same order or the same refund.

import { user } from "../both/identity.js";
import { newKey } from "../both/key.js";

const held = new Map(); // by name: what a browser without storage still has until a reload

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
  return keep(BOOKING, { body, session });
}

/** The unanswered wish of this user to book, or null. */
export const pending = () => kept(BOOKING);

/** The API has answered, or the customer gave the wish up. */
export const settle = () => drop(BOOKING);

/** The wish for money back of an order: `body` as the API takes it, unless one is unanswered. */
export const beginRefund = (order, body) => pendingRefund(order) ?? keep(refundOf(order), { body });

export const pendingRefund = (order) => kept(refundOf(order));

export const settleRefund = (order) => drop(refundOf(order));

const BOOKING = "holdfast.intent";
const refundOf = (order) => `holdfast.refund.${order}`;

function keep(name, wish) {
  const whole = { key: newKey(), ...wish, user: user(), at: Date.now() };
  held.set(name, whole);
  try { sessionStorage.setItem(name, JSON.stringify(whole)); } catch { /* private mode: safe until a reload */ }
  return whole;
}

function kept(name) {
  if (!held.has(name)) {
    try { held.set(name, JSON.parse(sessionStorage.getItem(name))); } catch { return null; }
  }
  const wish = held.get(name);
  return wish?.user === user() ? wish : null;
}

function drop(name) {
  held.delete(name);
  try { sessionStorage.removeItem(name); } catch { /* nothing was kept */ }
}
