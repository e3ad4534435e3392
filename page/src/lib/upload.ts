import { useSyncExternalStore } from "react";
import { defaultOptions, DetailedError, Upload } from "tus-js-client";
import { address } from "../api/client";

const CHUNK = 64 << 20; // bytes of a request
const WINDOW = 8_000; // ms that the speed is the mean of
const RETRIES = [0, 1000, 3000, 5000, 10_000, 20_000, 30_000]; // ms; from zero after each success

/** A film on its way to the service. */
export interface Sending {
  name: string;
  sent: number; // bytes
  of: number;
  speed: number | null; // bytes per second
  error: Error | null;
  asset: string | null; // once all is there
}

/** An upload that a closed or reloaded page has left: the same file goes on where it was. */
export interface Left {
  key: string;
  name: string;
  size: number;
  url: string;
}

let now: Sending | null = null;
let upload: Upload | null = null;
let seen: { at: number; sent: number }[] = [];
const watchers = new Set<() => void>();
const ended = new Set<string | null>(); // addresses of uploads that were given up

/** The upload under way. It goes on while other screens are looked at. */
export const useUpload = () =>
  useSyncExternalStore(
    (changed) => {
      watchers.add(changed);
      return () => watchers.delete(changed);
    },
    () => now,
  );

export async function send(file: File) {
  stop();
  seen = [];
  const mine: Upload = new Upload(file, {
    endpoint: address("uploads"),
    chunkSize: CHUNK,
    retryDelays: RETRIES,
    metadata: { filename: file.name, filetype: file.type },
    removeFingerprintOnSuccess: true,
    onProgress: (sent) => upload === mine && tell({ sent, speed: speed(sent), error: null }),
    onError: (error) => upload === mine && tell({ error: plain(error), speed: null }),
    onSuccess: ({ lastResponse }) => {
      if (upload !== mine) return;
      upload = null;
      tell({ sent: file.size, asset: lastResponse.getHeader("Longtake-Asset") ?? null });
    },
  });
  upload = mine;
  now = { name: file.name, sent: 0, of: file.size, speed: null, error: null, asset: null };
  tell({});
  const before = (await mine.findPreviousUploads()).at(-1);
  if (upload !== mine) return; // stopped meanwhile
  if (before) mine.resumeFromPreviousUpload(before);
  mine.start();
}

/** After an error: from the last byte that the service has. */
export function goOn() {
  seen = [];
  tell({ error: null });
  upload?.start();
}

/** Give it up; the service removes what it has of it. */
export function stop() {
  ended.add(upload?.url ?? null);
  void upload?.abort(true).catch(() => {}); // what is left over expires
  upload = null;
  done();
}

/** The finished upload was taken note of. */
export function done() {
  now = null;
  for (const changed of watchers) changed();
}

export async function left(): Promise<Left[]> {
  const found = await defaultOptions.urlStorage.findAllUploads();
  return found.flatMap(({ urlStorageKey, metadata, size, uploadUrl }) =>
    uploadUrl?.startsWith(address("uploads/")) && !ended.has(uploadUrl)
      ? [{ key: urlStorageKey, name: metadata["filename"] ?? "", size: size ?? 0, url: uploadUrl }]
      : [],
  );
}

export async function forget({ key, url }: Left) {
  await defaultOptions.urlStorage.removeUpload(key);
  await Upload.terminate(url, { retryDelays: [] }).catch(() => {}); // it expires by itself
}

function tell(change: Partial<Sending>) {
  if (now !== null) now = { ...now, ...change };
  for (const changed of watchers) changed();
}

function speed(sent: number): number | null {
  const at = Date.now();
  seen = [...seen.filter((point) => at - point.at < WINDOW), { at, sent }];
  const first = seen[0]!;
  return at - first.at < 500 ? null : ((sent - first.sent) * 1000) / (at - first.at);
}

/** The service's words, where it answered. */
function plain(error: Error): Error {
  if (!(error instanceof DetailedError) || error.originalResponse === null) return error;
  const answer = error.originalResponse.getBody();
  try {
    const told = JSON.parse(answer) as { detail?: string; title?: string };
    return new Error(told.detail ?? told.title ?? answer);
  } catch {
    return new Error(`${error.originalResponse.getStatus()}`);
  }
}
