// The one stream that keeps every page fresh: the overview, every two seconds. Pages show it, or take
// it for the beat at which they ask for their own documents again.

import { signedIn } from "../both/identity.js";
import { backoff, looked, pause } from "../both/pace.js";
import { EventParser, listen } from "../both/stream.js";
import * as api from "./api.js";

const watchers = new Set();
let overview = null;
let standing = "starting"; // then "live" or "lost"

/**
 * Calls `tell(overview, standing)` now and on every change until `signal` ends it. Without a stream the
 * overview is null: what was true a while ago is not shown as if it were true now.
 */
export function watch(signal, tell) {
  watchers.add(tell);
  signal.addEventListener("abort", () => watchers.delete(tell));
  tell(overview, standing);
}

/**
 * Calls `read` now, and again with the beat, not more often than every `every` ms and one at a time, until
 * `signal` ends it. `onTrouble(error or null)` hears of each failure, and when it works again.
 */
export function refresh(signal, read, { every = 4_000, onTrouble }) {
  let last = 0;
  let busy = false;
  const again = async () => {
    if (busy || signal.aborted || Date.now() - last < every) return;
    busy = true;
    last = Date.now();
    try {
      await read();
      onTrouble(null);
    } catch (error) {
      if (!signal.aborted) onTrouble(error);
    }
    busy = false;
  };
  watch(signal, again);
  return () => { last = 0; return again(); };
}

/** Keeps the stream for as long as the page is open, somebody is signed in and looks. */
export async function start() {
  const forever = new AbortController().signal;
  let failures = 0;
  for (;;) {
    await looked(forever);
    if (signedIn()) {
      try {
        await listen((line) => api.events(line), new EventParser(), whileSignedIn(), (events) => {
          failures = 0;
          const newest = events.filter(({ name }) => name === "overview").pop();
          if (newest) tellAll(JSON.parse(newest.data), "live");
        });
      } catch { /* told by the standing */ }
      failures += 1;
      tellAll(null, signedIn() ? "lost" : "starting");
    }
    await pause(signedIn() ? backoff(failures, { most: 10_000 }) : 300, forever);
  }
}

function whileSignedIn() {
  const line = new AbortController();
  addEventListener("holdfast:signed-out", () => line.abort(), { once: true });
  return line.signal;
}

function tellAll(next, how) {
  [overview, standing] = [next, how];
  for (const tell of [...watchers]) tell(overview, standing);
}
