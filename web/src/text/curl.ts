/** A command line that sends a request. It names the key by a variable of the shell, never by its value. */
export function curl(url: string, body: unknown, withKey: boolean): string {
  const parts = ["curl", quoted(url), "-H 'Content-Type: application/json'"];
  if (withKey) parts.push(`-H "Authorization: Bearer $TROVE_API_KEY"`);
  parts.push(`-d ${quoted(JSON.stringify(body))}`);
  return parts.join(" \\\n  ");
}

const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
