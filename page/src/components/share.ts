import type { Shapes } from "../api/client";

const DECODING = 10; // per cent of a film from words that are left for its frames

/** How much of a job is done, per cent: of frames, or of steps of the sampler and then of frames. */
export function share({ kind, progress: { frames, of, sampler } }: Pick<Shapes["Job"], "kind" | "progress">): number {
  const made = of ? Math.min(1, frames / of) : 0;
  if (kind === "upscale") return 100 * made;
  const steps = sampler ? sampler.done / sampler.of : 0;
  return made === 1 ? 100 : (100 - DECODING) * steps + DECODING * made;
}
