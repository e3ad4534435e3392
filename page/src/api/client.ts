import createClient, { type Middleware } from "openapi-fetch";
import type { Readable } from "openapi-typescript-helpers";
import type { components, paths } from "./schema";

type Schemas = components["schemas"];

/** What answers look like, as the client tells it: of a tuple it makes an array. */
export type Shapes = { [Name in keyof Schemas]: Readable<Schemas[Name]> };

/** What the service says when something cannot be done (RFC 9457). */
export class Problem extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

const asked: Middleware = {
  async onResponse({ response }) {
    if (response.ok || response.status === 304) return;
    const told = (await response
      .clone()
      .json()
      .catch(() => null)) as { detail?: string; title?: string } | null;
    throw new Problem(response.status, told?.detail ?? told?.title ?? response.statusText);
  },
};

/** Addresses are relative to the page's base, so that they hold under any prefix. */
export const root = new URL(".", document.baseURI).href.replace(/\/$/, "");

/** The address of something below /api/v1, for links, pictures and streams. */
export const address = (path: string) => `${root}/api/v1/${path}`;

export const api = createClient<paths>({ baseUrl: root, credentials: "same-origin" });
api.use(asked);

/** The body of an answer; a refusal has been thrown as a Problem before. */
export async function body<T>(answer: Promise<{ data?: T }>): Promise<T> {
  return (await answer).data as T;
}
