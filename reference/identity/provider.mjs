// OpenID Connect provider of the local stack: issuer, clients, users and resources from /etc/login/settings.json;
// signing keys, passwords and client secrets from a mounted seed.json; sessions and grants in a volume.
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';

import Provider, { errors } from 'oidc-provider';

import { fileAdapter } from './adapter.mjs';
import { loginPage } from './pages.mjs';

const settings = JSON.parse(readFileSync(process.env.LOGIN_SETTINGS ?? '/etc/login/settings.json', 'utf8'));
const mounted = (name) => readFileSync(`${settings.secrets}/${name}`, 'utf8');
const seed = JSON.parse(mounted('seed.json'));

const users = new Map(settings.users.map((user) => [user.email, user]));
const clientSettings = new Map(settings.clients.map((client) => [client.client_id, client]));
const scopes = ['openid', 'email', 'profile', 'groups', 'offline_access'];

const digest = (text) => createHash('sha256').update(text).digest();

function authenticate(email, password) {
  const user = users.get(email);
  const known = user && seed.passwords[user.name];
  return timingSafeEqual(digest(known ?? ''), digest(password)) && known !== undefined;
}

function clientMetadata({ client_id, secret, redirect_uris = [], grant_types }) {
  return {
    client_id,
    client_secret: seed.client_secrets[secret],
    redirect_uris,
    grant_types,
    response_types: grant_types.includes('authorization_code') ? ['code'] : [],
  };
}

// Every client belongs to the company: a person who logs in isn't asked whether the client may know who they are.
async function loadExistingGrant(ctx) {
  const { client, session, result, provider } = ctx.oidc;
  const grantId = result?.consent?.grantId ?? session.grantIdFor(client.clientId);
  const existing = grantId && (await provider.Grant.find(grantId));
  if (existing) return existing;
  const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
  grant.addOIDCScope(scopes.join(' '));
  await grant.save();
  return grant;
}

function getResourceServerInfo(ctx, indicator, client) {
  const { resources = [], access_token_ttl } = clientSettings.get(client.clientId);
  const resource = settings.resources[indicator];
  if (!resource || !resources.includes(indicator)) throw new errors.InvalidTarget();
  return {
    scope: '',
    audience: resource.audience,
    accessTokenFormat: 'jwt',
    accessTokenTTL: access_token_ttl ?? resource.access_token_ttl,
    jwt: { sign: { alg: 'RS256' } },
  };
}

const provider = new Provider(settings.issuer, {
  adapter: fileAdapter(settings.state),
  clients: settings.clients.map(clientMetadata),
  jwks: seed.jwks,
  cookies: { keys: seed.cookie_keys },
  scopes,
  claims: {
    openid: ['sub'],
    email: ['email', 'email_verified'],
    profile: ['name', 'preferred_username'],
    groups: ['groups'],
  },
  conformIdTokenClaims: false,
  pkce: { required: () => false },
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: (ctx, client, oneOf) => oneOf ?? clientSettings.get(client.clientId).resources?.[0],
      getResourceServerInfo,
      useGrantedResource: () => true,
    },
  },
  // A program belongs to a tenant group as a person does; the service gives whoever has none the last one.
  extraTokenClaims: (ctx, token) => {
    const group = clientSettings.get(token.clientId)?.tenant_group;
    return group ? { tenant_group: group } : undefined;
  },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  loadExistingGrant,
  findAccount: (ctx, id) => {
    const user = users.get(id);
    return user && {
      accountId: id,
      claims: () => ({
        sub: id,
        email: id,
        email_verified: true,
        name: user.name,
        preferred_username: user.name,
        groups: user.groups,
      }),
    };
  },
  renderError: (ctx, out) => {
    ctx.type = 'json';
    ctx.body = out;
  },
});

async function readForm(request) {
  let body = '';
  for await (const chunk of request) {
    body += chunk;
    if (body.length > 10_000) throw new errors.InvalidRequest('form too large');
  }
  return new URLSearchParams(body);
}

// The one page of the provider: the login form at /interaction/<uid>, which the authorization endpoint redirects to.
provider.use(async (ctx, next) => {
  if (!/^\/interaction\/[\w-]+$/.test(ctx.path)) return next();
  ctx.set('cache-control', 'no-store');
  const { prompt, params } = await provider.interactionDetails(ctx.req, ctx.res);
  if (prompt.name !== 'login') throw new errors.InvalidRequest(`no page for prompt ${prompt.name}`);
  ctx.type = 'html';
  if (ctx.method === 'GET') {
    ctx.body = loginPage({ client: params.client_id });
    return undefined;
  }
  if (ctx.method !== 'POST') {
    ctx.status = 405;
    return undefined;
  }
  const form = await readForm(ctx.req);
  const email = form.get('email') ?? '';
  if (!authenticate(email, form.get('password') ?? '')) {
    ctx.status = 401;
    ctx.body = loginPage({ client: params.client_id, email, failed: true });
    return undefined;
  }
  const target = await provider.interactionResult(
    ctx.req,
    ctx.res,
    { login: { accountId: email } },
    { mergeWithLastSubmission: false },
  );
  ctx.status = 303;
  ctx.redirect(target);
  return undefined;
});

provider.on('server_error', (ctx, error) => console.error(JSON.stringify({ level: 'error', error: error.stack })));
for (const event of ['authorization.error', 'grant.error', 'userinfo.error']) {
  provider.on(event, (ctx, error) => {
    console.warn(JSON.stringify({ level: 'warning', event, error: error.error, detail: error.error_description }));
  });
}

const server = createServer({ cert: mounted('tls.crt'), key: mounted('tls.key') }, provider.callback());
server.listen(settings.port, '0.0.0.0', () => {
  console.log(JSON.stringify({ level: 'info', event: 'listening', issuer: settings.issuer }));
});
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));
