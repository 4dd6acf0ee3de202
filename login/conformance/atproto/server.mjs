// An authorization server of the AT Protocol for the tests, and a protected resource. It reads
// its configuration as one line of JSON from standard input, writes its issuer as one line to
// standard output, and ends when standard input does.
//
// What the user sees is left out: whoever comes is alice, and says yes. What a client sees is as
// the server has it.
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { JoseKey, OAuthProvider } from '@atproto/oauth-provider/provider';
import { oauthMiddleware } from '@atproto/oauth-provider/middleware';

const alice = { did: 'did:plc:ewvi7nxzyoun6zhxrhs64oiz', handle: 'alice.test', pds: 'did:web:pds.test' };

// memory is every store that the server needs. A refresh token that comes twice is known by its
// history, as the server wants it.
function memory() {
  const requests = new Map();
  const devices = new Map();
  const tokens = new Map();
  const spent = new Map(); // refresh tokens, to the login that they are of
  const info = (t) => t && { id: t.id, data: t.data, account: alice, currentRefreshToken: t.refresh };
  return {
    createRequest: (id, data) => void requests.set(id, data),
    readRequest: (id) => requests.get(id) ?? null,
    updateRequest: (id, data) => void requests.set(id, { ...requests.get(id), ...data }),
    deleteRequest: (id) => void requests.delete(id),
    consumeRequestCode: (code) => {
      for (const [requestId, data] of requests) {
        if (data.code === code) {
          requests.delete(requestId);
          return { requestId, data };
        }
      }
      return null;
    },
    createDevice: (id, data) => void devices.set(id, data),
    readDevice: (id) => devices.get(id) ?? null,
    updateDevice: (id, data) => void devices.set(id, { ...devices.get(id), ...data }),
    deleteDevice: (id) => void devices.delete(id),
    createToken: (id, data, refresh) => {
      const t = { id, data, refresh };
      tokens.set(id, t);
      spent.set(refresh, t);
    },
    readToken: (id) => info(tokens.get(id)) ?? null,
    deleteToken: (id) => void tokens.delete(id),
    rotateToken: (id, next, refresh, data) => {
      const t = tokens.get(id);
      tokens.delete(id);
      Object.assign(t, { id: next, refresh, data: { ...t.data, ...data } });
      tokens.set(next, t);
      spent.set(refresh, t);
    },
    findTokenByRefreshToken: (refresh) => {
      const t = spent.get(refresh);
      return t && tokens.has(t.id) ? info(t) : null;
    },
    findTokenByCode: (code) => info([...tokens.values()].find((t) => t.data.code === code)) ?? null,
    listAccountTokens: () => [...tokens.values()].map(info),
    getAccount: () => ({ account: alice, authorizedClients: new Map() }),
    setAuthorizedClient: () => {},
    listDeviceAccounts: () => [],
    getDeviceAccount: () => null,
    findLexicon: () => null,
    storeLexicon: () => {},
    deleteLexicon: () => {},
    ...Object.fromEntries([
      'createAccount', 'authenticateAccount', 'upsertDeviceAccount', 'removeDeviceAccount', 'resetPasswordRequest',
      'resetPasswordConfirm', 'updateEmailRequest', 'updateEmailConfirm', 'verifyEmailRequest', 'verifyEmailConfirm',
      'verifyHandleAvailability', 'updateHandle', 'deactivateAccount', 'reactivateAccount', 'deleteAccountRequest',
      'deleteAccountConfirm',
    ].map((name) => [name, () => { throw new Error('nobody does that here'); }])),
  };
}

// Consenting is the server with a user who says yes at once.
class Consenting extends OAuthProvider {
  async authorize(query, { deviceId, deviceMetadata }) {
    const client = await this.clientManager.getClient(query.client_id);
    const { parameters, requestUri } = await this.processAuthorizationRequest(client, deviceId, query);
    const code = await this.requestManager.setAuthorized(requestUri, client, alice, deviceId, deviceMetadata);
    return { issuer: this.issuer, parameters, redirect: { code } };
  }
}

const lines = createInterface({ input: process.stdin });
lines.on('close', () => process.exit(0));
lines.once('line', async (line) => {
  const { accessTokenTTL, nonceLife, app } = JSON.parse(line);
  const http = createServer();
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  const issuer = `http://localhost:${http.address().port}`;
  const provider = new Consenting({
    issuer,
    keyset: [await JoseKey.generate(['ES256'], 'first')],
    store: memory(),
    tokenMaxAge: accessTokenTTL * 1000,
    dpopRotationInterval: nonceLife * 1000,
    // The application is on this machine too, and has no certificate for the name in its client_id.
    safeFetch: async (input, init) => {
      const { url, headers, signal } = new Request(input, init);
      return globalThis.fetch(url.replace('https://client.example.com', app), { headers, signal });
    },
  });
  const middleware = oauthMiddleware(provider, {
    onError: (req, res, err, message) => process.stderr.write(`${message}: ${err?.stack}\n`),
  });
  http.on('request', async (req, res) => {
    const url = new URL(req.url, issuer);
    if (url.pathname !== '/api') {
      // As a browser that comes to the page has them.
      Object.assign(req.headers, { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' });
      middleware(req, res, () => res.writeHead(404).end());
      return;
    }
    res.setHeader('DPoP-Nonce', provider.nextDpopNonce());
    try {
      const { sub } = await provider.authenticateRequest(req.method, url, req.headers);
      res.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify({ sub }));
    } catch (err) {
      res.writeHead(401, { 'WWW-Authenticate': err.wwwAuthenticateHeader ?? 'DPoP' }).end();
    }
  });
  process.stdout.write(`${issuer}\n`);
});
