// An OpenID provider for tests/oidc/main.rs: npm's oidc-provider, with fresh keys at each start, one person who is always
// signed in, and clients for each algorithm. Arguments: the directory where it is installed, and a port.

import { generateKeyPairSync } from "node:crypto";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [directory, port] = process.argv.slice(2);
const installed = createRequire(join(directory, "package.json"));
const { Provider } = await import(pathToFileURL(installed.resolve("oidc-provider")));

const issuer = `http://127.0.0.1:${port}`;
const back = "https://studio.example/back";
const algorithms = ["RS256", "ES256", "EdDSA", "Ed25519"];
const secret = "of the clients of this test alone";

const jwk = (type, options) => ({ ...generateKeyPairSync(type, options).privateKey.export({ format: "jwk" }), use: "sig" });

const provider = new Provider(issuer, {
  jwks: { keys: [jwk("rsa", { modulusLength: 2048 }), jwk("ec", { namedCurve: "P-256" }), jwk("ed25519")] },
  enabledJWA: { idTokenSigningAlgValues: algorithms },
  clients: algorithms.map((algorithm) => ({
    client_id: `studio-${algorithm}`,
    client_secret: secret,
    grant_types: ["authorization_code", "client_credentials"],
    response_types: ["code"],
    redirect_uris: [back],
    token_endpoint_auth_method: "client_secret_post",
    id_token_signed_response_alg: algorithm,
  })),
  claims: { openid: ["sub", "groups"] },
  conformIdTokenClaims: false,
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, groups: ["everyone", "studio-staff"] }) }),
  extraTokenClaims: () => ({ groups: ["everyone", "studio-owners"] }),
  cookies: { keys: ["only for this test"] },
  pkce: { required: () => false },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      // `urn:AUDIENCE:ALGORITHM`
      getResourceServerInfo: (_, resource) => {
        const [, audience, alg] = resource.split(":");
        return { scope: "book", audience, accessTokenFormat: "jwt", jwt: { sign: { alg } } };
      },
    },
  },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
});

// Signs the person in and lets every client have what it asks for; and hands an ID token to the test.
provider.use(async (ctx, next) => {
  if (ctx.path === "/test/id-token") {
    ctx.body = await idToken(ctx.query.algorithm);
  } else if (ctx.path.startsWith("/interaction/")) {
    const { prompt, params, session } = await provider.interactionDetails(ctx.req, ctx.res);
    let result = { login: { accountId: "ann" } };
    if (prompt.name === "consent") {
      const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
      grant.addOIDCScope("openid");
      result = { consent: { grantId: await grant.save() } };
    }
    const merge = { mergeWithLastSubmission: prompt.name === "consent" };
    ctx.redirect(await provider.interactionResult(ctx.req, ctx.res, result, merge));
  } else {
    await next();
  }
});

provider.listen(Number(port), "127.0.0.1");

/** The way of a browser: authorization, login, consent, and the code for an ID token. */
async function idToken(algorithm) {
  const client = { client_id: `studio-${algorithm}`, redirect_uri: back };
  const cookies = new Map();
  let address = `${issuer}/auth?${new URLSearchParams({ ...client, response_type: "code", scope: "openid", nonce: "n" })}`;
  while (!address.startsWith(back)) {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const answer = await fetch(address, { redirect: "manual", headers: { cookie } });
    for (const line of answer.headers.getSetCookie()) {
      const [name, value] = line.split(";")[0].split("=");
      cookies.set(name, value);
    }
    const to = answer.headers.get("location");
    if (!to) throw new Error(`${address} answers ${answer.status}: ${await answer.text()}`);
    address = new URL(to, address).href;
  }
  const code = new URL(address).searchParams.get("code");
  const body = new URLSearchParams({ ...client, client_secret: secret, grant_type: "authorization_code", code });
  const answer = await fetch(`${issuer}/token`, { method: "POST", body });
  const document = await answer.json();
  if (!document.id_token) throw new Error(`no ID token: ${JSON.stringify(document)}`);
  return document.id_token;
}
