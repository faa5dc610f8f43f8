// Store of sessions, grants and tokens: one file, replaced at each change, so that a kill at any moment loses nothing
// that was answered. For a handful of people.
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';

const now = () => Math.floor(Date.now() / 1000);

/** Return oidc-provider's adapter factory over the file `state.json` in `directory`. */
export function fileAdapter(directory) {
  mkdirSync(directory, { recursive: true });
  const path = `${directory}/state.json`;
  const entries = new Map(existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : []);

  const alive = (entry) => entry && (entry.expires === null || entry.expires > now());

  function save() {
    for (const [key, entry] of entries) if (!alive(entry)) entries.delete(key);
    writeFileSync(`${path}.new`, JSON.stringify([...entries]), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  return (model) => {
    const key = (id) => `${model}:${id}`;
    const read = (entry) => (alive(entry) ? structuredClone(entry.payload) : undefined);
    const findBy = (property, value) => {
      for (const [name, entry] of entries) {
        if (name.startsWith(`${model}:`) && entry.payload[property] === value) return read(entry);
      }
      return undefined;
    };
    return {
      async upsert(id, payload, expiresIn) {
        entries.set(key(id), { payload, expires: expiresIn ? now() + expiresIn : null });
        save();
      },
      async find(id) {
        return read(entries.get(key(id)));
      },
      async findByUid(uid) {
        return findBy('uid', uid);
      },
      async findByUserCode(userCode) {
        return findBy('userCode', userCode);
      },
      async consume(id) {
        const entry = entries.get(key(id));
        if (entry) entry.payload.consumed = now();
        save();
      },
      async destroy(id) {
        entries.delete(key(id));
        save();
      },
      async revokeByGrantId(grantId) {
        for (const [name, entry] of entries) {
          if (name !== `Grant:${grantId}` && entry.payload.grantId === grantId) entries.delete(name);
        }
        save();
      },
    };
  };
}
