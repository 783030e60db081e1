// What the page asks the server. Addresses are relative: they stay behind the token.

/** What the server says against a request; `stale` where the file has changed meanwhile. */
export class Refused extends Error {
  constructor(sentence, status) {
    super(sentence);
    this.stale = status === 409;
  }
}

async function answer(response) {
  const found = await response.json();
  if (!response.ok) throw new Refused(found.error, response.status);
  return found;
}

/** The scans in their order. */
export async function readStudy() {
  return answer(await fetch("study"));
}

/** One scan: its landmarks and what is decided about them. */
export async function readScan(scan) {
  return answer(await fetch(`scans/${scan}`));
}

/** The bytes of a volume. */
export async function readVolume(address) {
  const response = await fetch(address);
  if (!response.ok) await answer(response);
  return response.arrayBuffer();
}

/** Has the server make a volume that will be looked at next. */
export async function prepare(address) {
  const response = await fetch(address, { method: "HEAD" });
  await response.text();
}

/**
 * Changes what is decided about a scan; returns the scan as it then is.
 * A server that does not answer is a TypeError, one that refuses is `Refused`.
 */
export async function change(scan, asked) {
  const request = {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(asked),
    // Sent to its end even where the page is closed meanwhile.
    keepalive: true,
  };
  return answer(await fetch(`scans/${scan}`, request));
}
