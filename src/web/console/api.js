// The requests that the console makes.

import { query, read, send } from "../both/http.js";

export { NoAnswer, Problem } from "../both/http.js";

const OPS = "/v1/ops";

/** The open stream of overviews, to be read by the caller for as long as it lasts. */
export const events = (signal) => stream(`${OPS}/events`, signal);

/** The open stream of invariants: `begin`, an `item` each, `end`. */
export const invariants = (signal) => stream(`${OPS}/invariants`, signal);

export const orders = ({ text, cursor, signal }) => read(`${OPS}/orders${query({ text, cursor })}`, { signal });

export const order = (id, signal) => read(`${OPS}/orders/${encodeURIComponent(id)}`, { signal });

export const sessions = ({ from, to, cursor, signal }) => read(`${OPS}/schedules${query({ from, to, cursor })}`, { signal });

export const seats = (id, first, signal) =>
  read(`${OPS}/schedules/${encodeURIComponent(id)}/seats${query({ first })}`, { signal });

export const moneyInDoubt = ({ cursor, signal }) => read(`${OPS}/money-in-doubt${query({ cursor })}`, { signal });

/** A token for `user` in a role, from an API that runs with development settings. */
export const devToken = (user, role) => read("/dev/token", { method: "POST", body: { user, role } });

const stream = (path, signal) =>
  send(path, { signal, accept: "text/event-stream", lasting: true, take: (answer) => answer.body });
