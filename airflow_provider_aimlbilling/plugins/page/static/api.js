// Requests to the page's own server, and their failures in words.

const TIMEOUT_SECONDS = 60; // longer than the server's own limits, so that its words arrive

const WORDS = {
  401: "Your session has ended. Sign in to Airflow again.",
  403: "You do not have permission to see this.",
  404: "This no longer exists, or you do not have permission to see it.",
};

/** Why figures could not be read. The message is for the reader of the page. */
export class ReadError extends Error {}

/**
 * Read JSON from the page's server.
 *
 * @param {string} path relative to the page, such as "api/gates"
 * @param {AbortSignal} [signal] ends the request when its result is no longer wanted
 */
export async function read(path, signal) {
  const timeout = AbortSignal.timeout(TIMEOUT_SECONDS * 1000);
  let response;
  try {
    response = await fetch(path, {
      headers: { Accept: "application/json" },
      credentials: "same-origin",
      cache: "no-store",
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ReadError(
      error.name === "TimeoutError"
        ? `Airflow did not respond within ${TIMEOUT_SECONDS} seconds.`
        : "Airflow does not respond.",
    );
  }
  const body = await json(response, signal);
  if (response.ok && body !== null && typeof body === "object") return body;
  const detail = typeof body?.detail === "string" ? body.detail : null;
  if (response.ok) throw new ReadError("Airflow sent a response that is not JSON. Sign in to Airflow again.");
  throw new ReadError(WORDS[response.status] ?? detail ?? `Airflow responded with an error (${response.status}).`);
}

async function json(response, signal) {
  try {
    return await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    return null;
  }
}
