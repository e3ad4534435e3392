const MOST = 8;

/** Seconds of frames that show a film, from its first to its last; in whole milliseconds. */
export function moments({ frames, duration }: { frames: number; duration: string }): number[] {
  const [over = 0, under = 1] = duration.split("/").map(Number);
  const count = Math.max(1, Math.min(MOST, frames));
  const last = (over / under) * (1 - 1 / Math.max(1, frames)); // when the last frame begins
  return Array.from({ length: count }, (_, i) =>
    count === 1 ? 0 : Math.round((1000 * last * i) / (count - 1)) / 1000,
  );
}
