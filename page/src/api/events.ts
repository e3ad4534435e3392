import type { QueryClient } from "@tanstack/react-query";
import { address } from "./client";

/** One event of the service, as its stream tells it. */
export interface Told {
  type: string;
  job: string | null;
  data: Record<string, unknown>;
}

type Listener = (told: Told) => void;

const TYPES = [
  "job.state", "job.progress", "job.step", "job.log", "segment.state", "asset.state", "worker.state",
  "weights.state", "weights.progress",
];
const listeners = new Set<Listener>();
const status = new Set<(open: boolean) => void>();
let isOpen = false;

/** Hear what happens, until the function that is returned is called. */
export function listen(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Hear whether the stream is open. */
export function listenStatus(listener: (open: boolean) => void): () => void {
  status.add(listener);
  listener(isOpen);
  return () => status.delete(listener);
}

/**
 * Follow the service: one stream for all open tabs, because browsers allow few connections to a
 * host. The tab that holds the lock reads it and tells the others; without locks (plain http on
 * another machine) each tab has its own. Returns what ends it.
 */
export function follow(): () => void {
  const ended = new AbortController();
  if (!("locks" in navigator) || !("BroadcastChannel" in window)) {
    const source = open(hand);
    return () => source.close();
  }
  const channel = new BroadcastChannel(`longtake ${address("events")}`);
  channel.onmessage = (message: MessageEvent<Told | boolean>) => {
    if (typeof message.data === "boolean") setOpen(message.data);
    else hand(message.data);
  };
  const lead = async () => {
    const source = open(
      (told) => {
        hand(told);
        channel.postMessage(told);
      },
      (now) => channel.postMessage(now),
    );
    const beat = setInterval(() => channel.postMessage(isOpen), 2000);
    await new Promise((done) => ended.signal.addEventListener("abort", done));
    clearInterval(beat);
    source.close();
  };
  navigator.locks
    .request(`longtake ${address("events")}`, { signal: ended.signal }, lead)
    .catch((error: unknown) => {
      if (!ended.signal.aborted) throw error;
    });
  return () => {
    ended.abort();
    channel.close();
  };
}

function open(told: Listener, opened: (open: boolean) => void = () => {}): { close(): void } {
  let source: EventSource | null = null;
  let again: ReturnType<typeof setTimeout> | undefined;
  let last = "";
  const say = (now: boolean) => {
    setOpen(now);
    opened(now);
  };
  const connect = () => {
    source = new EventSource(address(last ? `events?last=${last}` : "events"));
    source.onopen = () => say(true);
    source.onerror = () => {
      say(false);
      if (source?.readyState === EventSource.CLOSED) again = setTimeout(connect, 2000);
    };
    for (const type of TYPES) {
      source.addEventListener(type, (event: MessageEvent<string>) => {
        last = event.lastEventId;
        told({ type, job: null, ...(JSON.parse(event.data) as object) } as Told);
      });
    }
  };
  connect();
  return {
    close() {
      clearTimeout(again);
      source?.close();
    },
  };
}

function hand(told: Told) {
  for (const listener of listeners) listener(told);
}

function setOpen(now: boolean) {
  if (isOpen === now) return;
  isOpen = now;
  for (const listener of status) listener(now);
}

/**
 * What is on the screen is asked for again when the service says that it has changed. The lists of
 * a job's segments and attempts may be long: their screen follows the events itself, and they are
 * asked for now and then.
 */
export function refresh(queries: QueryClient): () => void {
  const [soon, later] = [gather(queries, 250), gather(queries, 3000)];
  const ends = [
    soon.end,
    later.end,
    listen((told) => {
      const kind = told.type.split(".")[0];
      const job = ["job", told.job];
      if (told.type === "job.log") soon.mark([...job, "log"]);
      else if (["job.progress", "job.step"].includes(told.type)) soon.mark(["jobs"], [...job, "now"]);
      else if (kind === "segment") {
        soon.mark(["jobs"], [...job, "now"]);
        later.mark([...job, "segments"], [...job, "attempts"]);
      } else if (kind === "job") soon.mark(["jobs"], job);
      else if (kind === "asset") soon.mark(["assets"], ["asset", told.data.asset]);
      else if (kind === "weights") soon.mark(["weights"]);
      else soon.mark(["workers"]);
    }),
    listenStatus((open) => {
      if (open) void queries.invalidateQueries(); // what happened meanwhile is not known
    }),
  ];
  return () => ends.forEach((end) => end());
}

/** Gathers keys for some time (ms) and asks for all of them at its end. */
function gather(queries: QueryClient, wait: number) {
  const stale = new Set<string>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const flush = () => {
    timer = undefined;
    for (const key of stale) void queries.invalidateQueries({ queryKey: JSON.parse(key) as unknown[] });
    stale.clear();
  };
  return {
    mark(...keys: unknown[][]) {
      for (const key of keys) stale.add(JSON.stringify(key));
      timer ??= setTimeout(flush, wait);
    },
    end: () => clearTimeout(timer),
  };
}
