// HTML of the provider.
const escapes = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escape = (text) => String(text).replace(/[&<>"']/g, (character) => escapes[character]);

/** The login form; it posts `email` and `password` to its own address. */
export function loginPage({ client, email = '', failed = false }) {
  const alert = failed ? '<p role="alert">Wrong e-mail address or password.</p>' : '';
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Log in</title></head>
<body>
<h1>Log in to ${escape(client)}</h1>
${alert}
<form method="post">
<label>E-mail <input type="email" name="email" value="${escape(email)}" autocomplete="username" required></label>
<label>Password <input type="password" name="password" autocomplete="current-password" required></label>
<button type="submit">Log in</button>
</form>
</body>
</html>
`;
}
