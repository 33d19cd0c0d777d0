// The server's time on a device whose clock may be wrong: a countdown that trusts the device
// would tell a customer "5 minutes left" for a hold that has already run out.
//
// A `Date` header is cut to whole seconds, so each answer only says that the difference lies in
// an interval. Intervals of many answers intersect to well below a second.

let low = -Infinity;
let high = Infinity;

/** Takes a `Date` header in, with the device's times (ms) around the request. */
export function learn(header, sent, received) {
  const server = Date.parse(header ?? "");
  if (Number.isNaN(server)) return;
  const [from, to] = [server - received, server + 1000 - sent];
  if (from > high || to < low) {
    [low, high] = [from, to]; // contradiction: somebody set the device's clock meanwhile
  } else {
    [low, high] = [Math.max(low, from), Math.min(high, to)];
  }
}

/**
 * The server's time now, in ms since 1970; of all the times it can be, the latest, so that a
 * countdown never promises a second that is not there.
 */
export const now = () => Date.now() + (Number.isFinite(high) ? high : 0);
