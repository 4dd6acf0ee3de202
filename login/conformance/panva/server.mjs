// An OpenID provider for the tests. It reads its configuration as one line of
// JSON from standard input, writes its issuer as one line to standard output, and
// ends when standard input does.
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

const lines = createInterface({ input: process.stdin });
lines.on('close', () => process.exit(0));
lines.once('line', async (line) => {
  const { clients, accessTokenTTL, app } = JSON.parse(line);
  const http = createServer();
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  const issuer = `http://127.0.0.1:${http.address().port}`;
  const provider = new Provider(issuer, {
    clients,
    cookies: { keys: ['only', 'a', 'test'] },
    // The application is on this machine too, which the server's own dispatcher refuses, and
    // has no certificate for the name in its client_id.
    fetch: (url, { dispatcher, ...options }) => globalThis.fetch(String(url).replace('https://client.example', app), options),
    claims: { openid: ['sub'], email: ['email'] },
    scopes: ['openid', 'offline_access', 'email'],
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@example.com` }) }),
    ttl: { AccessToken: accessTokenTTL, ClientCredentials: 60 },
    rotateRefreshToken: true,
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'none'],
    enabledJWA: { introspectionSigningAlgValues: ['RS256'], userinfoSigningAlgValues: ['RS256'] },
    features: {
      backchannelLogout: { enabled: true },
      clientIdMetadataDocument: { enabled: true, ack: 'draft-02' },
      jwtResponseModes: { enabled: true },
      registration: { enabled: true },
      registrationManagement: { enabled: true, rotateRegistrationAccessToken: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (ctx, resource) => ({ scope: 'openid', audience: resource, accessTokenFormat: 'jwt' }),
      },
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      dPoP: { enabled: true, nonceSecret: Buffer.alloc(32, 1), requireNonce: () => true },
      deviceFlow: { enabled: true },
      introspection: { enabled: true },
      jwtIntrospection: { enabled: true },
      jwtUserinfo: { enabled: true },
      pushedAuthorizationRequests: { enabled: true },
      revocation: { enabled: true },
      rpInitiatedLogout: { enabled: true },
      requestObjects: { enabled: true },
      userinfo: { enabled: true },
    },
  });
  http.on('request', provider.callback());
  process.stdout.write(`${issuer}\n`);
});
