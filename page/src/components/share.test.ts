import { expect, test } from "vitest";
import { share } from "./share";

const progress = { frames: 0, of: 9, segments: {} as never, sampler: null, fps: null, eta: null };

test("films that are read go by frames", () => {
  expect(share({ kind: "upscale", progress: { ...progress, frames: 3 } })).toBeCloseTo(33.3, 1);
  expect(share({ kind: "upscale", progress: { ...progress, of: null } })).toBe(0);
});

test("films from words go by steps, then by frames, and never back", () => {
  const at = (done: number, frames: number) =>
    share({ kind: "generate", progress: { ...progress, frames, sampler: { done, of: 30 } } });
  const way = [share({ kind: "generate", progress }), at(0, 0), at(1, 0), at(29, 0), at(30, 0), at(30, 4), at(30, 9)];
  expect(way).toEqual(way.toSorted((a, b) => a - b));
  expect([way.at(0), way.at(-1)]).toEqual([0, 100]);
});
