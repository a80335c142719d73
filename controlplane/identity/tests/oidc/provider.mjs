// A real OpenID provider (npm: oidc-provider) for tests/oidc.rs. Not part of the product.
//
// Prints one JSON line { issuer } when it listens. Then reads lines from stdin:
//   approve <user_code> <login>   does what a person does in the browser, and prints { approved }
//   deny <user_code>              aborts the login in the browser, and prints { denied }
//   rotate                        new signing keys, old ones gone; prints { rotated }
// Ends when stdin ends. With PROVIDER_CERTIFICATE and PROVIDER_KEY (PEM files) it speaks https.

import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

function keys(generation) {
  const make = (type, options, kid, alg) => {
    const { privateKey } = generateKeyPairSync(type, options);
    return { ...privateKey.export({ format: 'jwk' }), kid: `${kid}-${generation}`, alg, use: 'sig' };
  };
  return [
    make('rsa', { modulusLength: 2048 }, 'rsa', 'RS256'),
    make('ec', { namedCurve: 'P-256' }, 'ec', 'ES256'),
    make('ed25519', {}, 'ed', 'EdDSA'),
  ];
}

const people = { alice: ['dba', 'staff'], bob: ['staff'] };

function configuration(generation) {
  return {
    jwks: { keys: keys(generation) },
    clients: [
      {
        client_id: 'nightly-job', client_secret: 'job-secret', redirect_uris: [], response_types: [],
        grant_types: ['client_credentials'],
      },
      {
        client_id: 'headgate-cli', token_endpoint_auth_method: 'none', redirect_uris: [], response_types: [],
        grant_types: ['urn:ietf:params:oauth:grant-type:device_code'], application_type: 'native',
        id_token_signed_response_alg: 'ES256',
      },
    ],
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
    scopes: ['openid', 'profile', 'email', 'groups'],
    claims: { openid: ['sub'], groups: ['groups'] },
    conformIdTokenClaims: false,
    cookies: { keys: ['a', 'b'] },
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      resourceIndicators: {
        enabled: true,
        // .../<algorithm>?audience=<audience>, or .../self/<algorithm> for the resource itself.
        // A login that asks for no resource gets an opaque access token beside the ID token.
        getResourceServerInfo: (ctx, resource) => ({
          scope: 'read write',
          audience: resource.includes('/self/') ? resource : new URL(resource).searchParams.get('audience') ?? 'headgate',
          accessTokenTTL: 600,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: new URL(resource).pathname.split('/').pop() } },
        }),
      },
    },
    extraTokenClaims: (ctx, token) => ({
      groups: ['jobs'],
      act: { sub: 'agent-1', act: { sub: 'planner' } },
    }),
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, groups: people[id] ?? [] }) }),
    ttl: { AccessToken: 600, ClientCredentials: 600, IdToken: 600, DeviceCode: 60, Grant: 600, Interaction: 600, Session: 600 },
  };
}

let handler;
const listener = (request, response) => handler(request, response);
const { PROVIDER_CERTIFICATE: cert, PROVIDER_KEY: key } = process.env;
const server = cert
  ? createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) }, listener)
  : createServer(listener);
await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
const issuer = `${cert ? 'https://localhost' : 'http://127.0.0.1'}:${server.address().port}`;
const start = (generation) => { handler = new Provider(issuer, configuration(generation)).callback(); };

// Enough of a browser: cookies, redirects by hand, and the form on the page.
class Browser {
  cookies = new Map();

  async go(url, form) {
    for (let hops = 0; hops < 20; hops += 1) {
      const answer = await fetch(url, {
        method: form ? 'POST' : 'GET',
        body: form && new URLSearchParams(form),
        redirect: 'manual',
        headers: { cookie: [...this.cookies].map(([k, v]) => `${k}=${v}`).join('; ') },
      });
      for (const cookie of answer.headers.getSetCookie()) {
        const [pair] = cookie.split(';');
        const at = pair.indexOf('=');
        this.cookies.set(pair.slice(0, at), pair.slice(at + 1));
      }
      if (answer.status < 300 || answer.status >= 400) return { url, status: answer.status, page: await answer.text() };
      url = new URL(answer.headers.get('location'), url).href;
      form = undefined;
    }
    throw new Error('too many redirects');
  }

  async submit({ url, page }, fields) {
    const action = /<form[^>]*action="([^"]+)"/.exec(page)?.[1] ?? url;
    const hidden = [...page.matchAll(/<input[^>]*type="hidden"[^>]*>/g)].map(([tag]) => [
      /name="([^"]*)"/.exec(tag)?.[1], /value="([^"]*)"/.exec(tag)?.[1] ?? '',
    ]).filter(([name]) => name);
    return this.go(new URL(action, url).href, { ...Object.fromEntries(hidden), ...fields });
  }
}

async function confirm(userCode, extra) {
  const browser = new Browser();
  const asked = await browser.go(`${issuer}/device`);
  return [browser, await browser.submit(asked, { user_code: userCode, confirm: 'yes', ...extra })];
}

const commands = {
  async approve(userCode, login) {
    let [browser, page] = await confirm(userCode);
    for (let step = 0; step < 6 && /<form/.test(page.page); step += 1) {
      page = await browser.submit(page, /name="login"/.test(page.page) ? { login, password: 'any' } : {});
    }
    if (page.status !== 200) throw new Error(`status ${page.status} at ${page.url}`);
    return { approved: login };
  },
  async deny(userCode) {
    const [, page] = await confirm(userCode, { abort: 'yes' });
    return { denied: page.status };
  },
  rotate() {
    start('second');
    return { rotated: true };
  },
};

start('first');
console.log(JSON.stringify({ issuer }));
for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...words] = line.split(' ');
  try {
    console.log(JSON.stringify(await commands[command](...words)));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error.stack) }));
  }
}
process.exit(0);
