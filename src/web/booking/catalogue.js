// The sessions this page knows. Orders name theirs only by id, so every view that shows one gets
// its course and time here.

import * as api from "./api.js";
import { now } from "../both/clock.js";

const known = new Map(); // by id: a promise of the session, or of null

/** One page of the sessions still to come: `{items, next}`. */
export async function page({ cursor, signal } = {}) {
  const answer = await api.schedules({ cursor, from: new Date(now()).toISOString(), signal });
  for (const session of answer.items) known.set(session.schedule_id, Promise.resolve(session));
  return answer;
}

/** The session, or null when there is none. Views that ask for the same one share the question. */
export function find(id) {
  if (!known.has(id)) {
    known.set(id, api.schedule(id).catch((error) => {
      known.delete(id);
      if (error.status === 404) return null;
      throw error;
    }));
  }
  return known.get(id);
}

/** Whether seats of this session can be asked for at all. */
export const bookable = (session) => session.status === "open";
