// The requests that the console makes.

import { query, read, send } from "../both/http.js";

export { NoAnswer, Problem } from "../both/http.js";

const OPS = "/v1/ops";

/** The open stream of overviews, to be read by the caller for as long as it lasts. */
export const events = (signal) => stream(`${OPS}/events`, signal);

/** The open stream of invariants: `begin`, an `item` each, `end`. */
export const invariants = (signal) => stream(`${OPS}/invariants`, signal);

export const orders = ({ text, cursor, signal }) => read(`${OPS}/orders${query({ text, cursor })}`, { signal });

/** An order's whole story. */
export const story = (id, signal) => read(`${OPS}/orders/${encodeURIComponent(id)}/timeline`, { signal });

export const sessions = ({ from, to, cursor, signal }) => read(`${OPS}/schedules${query({ from, to, cursor })}`, { signal });

/** A session with every seat. */
export const session = (id, signal) => read(`${OPS}/schedules/${encodeURIComponent(id)}`, { signal });

/** The same key is the same session, however often this is called. */
export const addSession = (session, key) => act(`${OPS}/schedules`, session, { "Idempotency-Key": key });

/** Begins it, or goes on with it; with `dry_run` only says what it comes to. */
export const cancelSession = (id, how) => act(`${OPS}/schedules/${encodeURIComponent(id)}/cancel`, how);

export const moneyInDoubt = ({ cursor, signal }) => read(`${OPS}/money-in-doubt${query({ cursor })}`, { signal });

export const bookDays = ({ cursor, signal }) => read(`${OPS}/reconciliations${query({ cursor })}`, { signal });

/** A day with what differs in it. */
export const bookDay = ({ date, cursor, signal }) =>
  read(`${OPS}/reconciliations/${encodeURIComponent(date)}${query({ cursor })}`, { signal });

export const errors = (range, signal) => read(`${OPS}/errors${query({ range })}`, { signal });

export const cases = ({ status, cursor, signal }) => read(`${OPS}/cases${query({ status, cursor })}`, { signal });

export const takeRefund = (id, { out_refund_no, reason }) => act(`${OPS}/orders/${encodeURIComponent(id)}/wechat-refunds`, { out_refund_no, reason });
export const closeCase = (id, { resolution, ended, receipt }) => act(`${OPS}/cases/${id}/close`, {
  resolution, paid_by_hand: ended === "paid_by_hand" ? receipt : undefined, not_owed: ended === "not_owed" ? true : undefined,
});

export const overrides = ({ status, signal }) => read(`${OPS}/overrides${query({ status })}`, { signal });

/** A decision about an order. The same key is the same decision, however often this is called. */
export const decide = (decision, key) => act(`${OPS}/overrides`, decision, { "Idempotency-Key": key });

export const approve = (id) => act(`${OPS}/overrides/${id}/approve`);
export const withdraw = (id) => act(`${OPS}/overrides/${id}/withdraw`);

const LETTERS = `${OPS}/dead-letters`;

export const letters = ({ filter, cursor, signal }) => read(`${LETTERS}${query({ ...filter, cursor })}`, { signal });

export const letterGroups = ({ filter, by, signal }) => read(`${LETTERS}/groups${query({ ...filter, by })}`, { signal });

export const letter = (id, signal) => read(`${LETTERS}/${encodeURIComponent(id)}`, { signal });

/** What WeChat says now of what a letter is about. */
export const wechatWord = (id, signal) => read(`${LETTERS}/${encodeURIComponent(id)}/wechat`, { signal });

export const discard = (choice, reason) => act(`${LETTERS}/discard`, { ...choice, reason });
export const restore = (letters, reason) => act(`${LETTERS}/restore`, { letters, reason });
export const note = (cause, words) => act(`${LETTERS}/notes`, { cause, note: words });

export const planReplay = (plan) => act(`${LETTERS}/replays`, plan);
export const replays = ({ cursor, signal }) => read(`${LETTERS}/replays${query({ cursor })}`, { signal });
export const replay = (id, signal) => read(`${LETTERS}/replays/${encodeURIComponent(id)}`, { signal });
export const replayItems = (id, cursor, signal) =>
  read(`${LETTERS}/replays/${encodeURIComponent(id)}/items${query({ cursor })}`, { signal });

/** `turn`: start, pause, cancel. The hash says which set was looked at. */
export const turnReplay = (id, turn, words) => act(`${LETTERS}/replays/${encodeURIComponent(id)}/${turn}`, words);

/** `{user, role}` of the caller, as the API judges it. */
export const me = () => read("/v1/me");

/** A token for `user` in a role, from an API that runs with development settings. */
export const devToken = (user, role) => read("/dev/token", { method: "POST", body: { user, role } });

const act = (path, body, headers) =>
  send(path, { method: "POST", body, headers, take: (answer) => answer.status === 204 ? null : answer.json() });

const stream = (path, signal) =>
  send(path, { signal, accept: "text/event-stream", lasting: true, take: (answer) => answer.body });
