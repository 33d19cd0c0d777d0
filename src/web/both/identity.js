// Who uses the page. It has no login of its own: whoever embeds it hands a token over as
// "#token=<JWT>" (with "&to=/orders/<id>" to arrive there), where no server log sees it; it leaves
// the address bar at once and lives as long as the tab. It is opened here for display only; who
// judges it is the API. Each page keeps its own: an operator is no customer.
//
// Anybody can make a link with a token of their own. So a token of another user than the one who is
// signed in, in this tab or in another one of this browser, is not taken: it is offered, and the page asks.

const PAGE = location.pathname.replace(/\/$/, "");
const STORE = `holdfast.token${PAGE}`;
/** `{sub, exp}` of the newest session of any tab: enough to notice that a link is for somebody else. */
const LAST = `holdfast.user${PAGE}`;
const HANDED = /^#(?:[a-z]+=[^&]*&)*token=/;

let held = null;
/** The token before a link's of the same user, until the API has refused the link's: then it was a forgery. */
let spare = null;
let offer = null;
let person = null;

/**
 * Takes a token that was handed over in the address, once, before anything reads the address.
 * `knows` tells whether the page has a view at a path.
 */
export function arrive(knows) {
  held ??= read(sessionStorage, STORE);
  if (!HANDED.test(location.hash)) return;
  const handed = new Map(location.hash.slice(1).split("&").map((part) => cut(part)));
  const token = plain(handed.get("token"));
  const to = plain(handed.get("to") ?? "/");
  const view = to !== null && to.startsWith("/") && knows(to) ? to : "/";
  const claims = opened(token);
  const now = current();
  offer = null;
  let next = view;
  if (!claims) {
    offer = { broken: true, view };
  } else if (now && now !== claims.sub) {
    offer = { token, view, from: now, to: claims.sub };
    next = "/";
  } else {
    const before = held;
    keep(token);
    spare = before !== token ? before : null;
  }
  history.replaceState(null, "", `${location.pathname}${location.search}#${next}`);
}

/** `{broken}` or `{from, to}`: what the page asks about before anything else; null when there is nothing to ask. */
export const offered = () => offer;

/** Ends the question. `taken`: the other user's token is used from now on. Answers the view to go to. */
export function settle(taken) {
  const { token, view } = offer;
  offer = null;
  if (taken) keep(token);
  return taken || !token ? view : "/";
}

export const token = () => held;

/** Whether requests carry a token, or a proxy adds one. */
export const signedIn = () => held !== null || person !== null;

/** The user id in the token, or an empty string. */
export const user = () => person?.user ?? claim("sub");

/** `customer`, `viewer`, `operator`, or an empty string where the token has no claim `role`. */
export const role = () => person?.role ?? claim("role");

/** Keeps what the API tells of the caller, `{user, role}`: an issuer may name roles its own way. */
export function introduce(document) {
  person = document;
}

/** Whether a text is a token as far as a page can tell. */
export const looksLikeToken = (text) => opened(text) !== null;

function claim(name) {
  const value = opened(held)?.[name];
  return typeof value === "string" ? value : "";
}

/** The claims of a token whose `sub` the API could take, or null. */
function opened(token) {
  try {
    const parts = token.split(".");
    if (parts.length !== 3 || parts.some((part) => !/^[\w-]+$/.test(part))) return null;
    const bytes = Uint8Array.from(atob(parts[1].replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return typeof claims.sub === "string" && /^[\x21-\x7e]{1,128}$/.test(claims.sub) ? claims : null;
  } catch {
    return null;
  }
}

/** The user who is signed in: in this tab, else in another one whose token still lives; or null. */
function current() {
  const own = opened(held)?.sub;
  if (own) return own;
  try {
    const { sub, exp } = JSON.parse(read(localStorage, LAST));
    return typeof sub === "string" && exp * 1000 > Date.now() ? sub : null;
  } catch {
    return null;
  }
}

export function keep(next) {
  held = next;
  spare = null;
  person = null;
  const claims = opened(next);
  write(sessionStorage, STORE, next);
  if (claims) write(localStorage, LAST, JSON.stringify({ sub: claims.sub, exp: Number(claims.exp) || 0 }));
}

/** Signs out; `refused` when the API no longer takes the token, so that the page can say why. */
export function forget(refused = false) {
  const instead = refused ? spare : null;
  if (instead) {
    keep(instead);
  } else {
    held = null;
    spare = null;
    person = null;
    remove(sessionStorage, STORE);
    remove(localStorage, LAST);
  }
  dispatchEvent(new CustomEvent("holdfast:signed-out", { detail: { refused } }));
}

function cut(part) {
  const at = part.indexOf("=");
  return at < 0 ? [part, ""] : [part.slice(0, at), part.slice(at + 1)];
}

/** Decoded, or null for what is no encoding of anything. */
function plain(text) {
  try { return decodeURIComponent(text ?? ""); } catch { return null; }
}

// In private mode there may be no store: then all of it lasts until the next load.
function read(store, name) {
  try { return store.getItem(name); } catch { return null; }
}

function write(store, name, value) {
  try { store.setItem(name, value); } catch { /* as above */ }
}

function remove(store, name) {
  try { store.removeItem(name); } catch { /* nothing was kept */ }
}
