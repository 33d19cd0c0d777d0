// The sessions this page has seen. Orders name their session only by id, so a ticket finds its
// course and time here, walking the API's list once when it has to.

import * as api from "./api.js";

const MOST_PAGES = 20;
const seen = new Map();

/** One page of sessions: `{items, next}`. */
export async function page({ cursor, from, signal } = {}) {
  const answer = await api.schedules({ cursor, from, signal });
  for (const session of answer.items) seen.set(session.schedule_id, session);
  return answer;
}

export const remember = (session) => session && seen.set(session.schedule_id, session);

/** Walks the list from `from` on until all of `ids` are seen, or it ends. */
export async function gather(ids, { from, signal } = {}) {
  let cursor;
  for (let pages = 0; pages < MOST_PAGES && !ids.every((id) => seen.has(id)); pages += 1) {
    ({ next: cursor } = await page({ cursor, from, signal }));
    if (!cursor) break;
  }
  return seen;
}

/** The session, or null when the list does not have it. */
export const find = async (id, options) => (await gather([id], options)).get(id) ?? null;

/** Whether seats of this session can be asked for at all. */
export const bookable = (session) => !["cancelled", "closed", "finished"].includes(session.status);
