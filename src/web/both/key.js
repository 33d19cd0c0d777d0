// Names for wishes, so that a repeated one is the same one.

/** A fresh Idempotency-Key. Not crypto.randomUUID(): it is missing where the page is served without TLS. */
export const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
