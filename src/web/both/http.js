// Every request to the API, and what can come of it: an answer, a `Problem` the server explains,
// or `NoAnswer`, after which nothing is known about what the server did.

import { learn } from "./clock.js";
import { setting } from "./dom.js";
import { forget, signedIn, token } from "./identity.js";
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

/** One request for a JSON document. */
export const read = (path, options) => send(path, { ...options, take: (answer) => answer.json() });

/** `{a: 1}` to `?a=1`; what is empty is left out. */
export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value);
  return given.length > 0 ? `?${new URLSearchParams(given)}` : "";
}

/**
 * One request, given up after `PATIENCE` unless `take` has its result by then; of a `lasting`
 * answer the body is still open then, and `signal` goes on to end it.
 */
export async function send(path, { method = "GET", body, headers = {}, accept = "application/json", signal, take, lasting }) {
  const limit = new AbortController();
  const stop = () => limit.abort();
  signal?.addEventListener("abort", stop);
  const timer = setTimeout(stop, PATIENCE);
  const sent = Date.now();
  const as = token();
  try {
    const answer = await fetch(path, {
      method,
      signal: limit.signal,
      cache: "no-store",
      // A proxy that signs people in knows them by its cookie.
      credentials: setting("sign-in") === "proxy" ? "same-origin" : "omit",
      headers: {
        Accept: accept,
        "Accept-Language": acceptLanguage(),
        ...(as ? { Authorization: `Bearer ${as}` } : {}),
        ...(body ? { "Content-Type": "application/json" } : {}),
        ...headers,
      },
      body: body && JSON.stringify(body),
    });
    learn(answer.headers.get("Date"), sent, Date.now());
    if (answer.ok) return await take(answer);
    throw await problem(answer, as);
  } catch (error) {
    if (error instanceof Problem || signal?.aborted) throw error;
    throw new NoAnswer(error.message);
  } finally {
    clearTimeout(timer);
    if (!lasting) signal?.removeEventListener("abort", stop);
  }
}

async function problem(answer, as) {
  const document = (await answer.json().catch(() => null)) ?? {};
  // What was asked with an earlier token says nothing about this one.
  if (answer.status === 401 && signedIn() && as === token()) forget(true);
  return new Problem(answer.status, document, Number(answer.headers.get("Retry-After")) || 0);
}
