// How often the page asks: while somebody looks at it, and ever more rarely while asking fails,
// so that a thousand open pages do not keep a server down that is trying to get up.

/** Waits `ms`, or until `signal` ends it. */
export const pause = (ms, signal) => until(signal, (done) => {
  const timer = setTimeout(done, ms);
  return () => clearTimeout(timer);
});

/** Waits until the page is looked at. */
export const looked = (signal) => until(signal, (done) => {
  const check = () => document.visibilityState === "visible" && done();
  document.addEventListener("visibilitychange", check);
  check();
  return () => document.removeEventListener("visibilitychange", check);
});

/** The wait (ms) after `failures` in a row: doubling from `first`, with jitter, at most `most`. */
export function backoff(failures, { first = 1_000, most = 30_000, retryAfter = 0 } = {}) {
  const wait = Math.min(most, first * 2 ** Math.max(0, failures - 1));
  return Math.max(retryAfter * 1000, wait * (0.75 + Math.random() / 2));
}

/**
 * Calls `read` every `every` ms while the page is looked at, until `signal` ends it.
 * `onTrouble(error)` is told of each failure, `onTrouble(null)` when it works again.
 */
export async function repeat(read, { every, signal, onTrouble = () => {} }) {
  let failures = 0;
  while (!signal.aborted) {
    await looked(signal);
    if (signal.aborted) return;
    let wait = every;
    try {
      await read();
      if (failures > 0) onTrouble(null);
      failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      failures += 1;
      wait = backoff(failures, { first: every, retryAfter: error.retryAfter });
      onTrouble(error);
    }
    await pause(wait, signal);
  }
}

/** Resolves when `start`'s callback is called or `signal` aborts; then runs what `start` returned. */
function until(signal, start) {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    let stop = () => {};
    let over = false;
    const done = () => {
      over = true;
      signal?.removeEventListener("abort", done);
      stop();
      resolve();
    };
    signal?.addEventListener("abort", done);
    stop = start(done);
    if (over) stop();
  });
}
