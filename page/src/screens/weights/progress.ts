import type { Model } from "./queries";

/** Bytes that are here and bytes in all, and the seconds until they are; of what is fetched now
 * where the whole is not known. */
export function progress(model: Model): { here: number; of: number | null; left: number | null } {
  const pull = model.pull;
  const [here, of] = model.of === null ? [pull?.received ?? 0, pull?.of ?? null] : [model.here, model.of];
  const speed = pull?.bytes_per_second ?? 0;
  return { here, of, left: of !== null && speed > 0 ? Math.max(0, of - here) / speed : null };
}
