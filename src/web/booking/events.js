// The order's changes as the server tells them.

import { backoff, pause, repeat } from "../both/pace.js";
import { EventParser, listen } from "../both/stream.js";
import * as api from "./api.js";

const POLL = 3_000;
const TRUST = 20_000; // a stream that has told nothing for so long is checked by asking

/**
 * Tells every change of an order until `signal` ends it: `onOrder(document)`, each version once,
 * never an older one after a newer one. By the event stream; while no byte of it comes through (a proxy that
 * buffers, a server that restarts), by asking. `onTrouble(error or null)` as for `repeat`.
 */
export function follow(id, { signal, onOrder, onTrouble }) {
  let version = -1;
  let streaming = false;
  let heard = 0;
  const tell = (order) => {
    heard = Date.now();
    if (signal.aborted || order.version <= version) return;
    version = order.version ?? version;
    onOrder(order);
  };
  const ask = async () => tell(await api.order(id, signal));

  const check = async () => { if (!streaming || Date.now() - heard > TRUST) await ask(); };
  repeat(check, { every: POLL, signal, onTrouble });
  // A phone that comes back from the payment app may have lost the stream without noticing.
  const back = () => document.visibilityState === "visible" && ask().catch(() => {});
  document.addEventListener("visibilitychange", back);
  signal.addEventListener("abort", () => document.removeEventListener("visibilitychange", back));

  (async () => {
    let parser;
    let failures = 0;
    while (!signal.aborted) {
      parser = new EventParser(parser?.lastEventId);
      try {
        const open = (line) => api.orderEvents(id, parser.lastEventId, line);
        await listen(open, parser, signal, (events) => {
          streaming = true;
          failures = 0;
          onTrouble(null);
          for (const { name, data } of events) if (name === "status") tell(JSON.parse(data));
        });
      } catch { /* the polling above tells the customer if something is wrong */ }
      streaming = false;
      failures += 1;
      await pause(backoff(failures), signal);
    }
  })();
}
