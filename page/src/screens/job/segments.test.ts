import { expect, test } from "vitest";
import type { Step } from "./queries";
import { after, attemptOf, cell, counts, isAgain, spans } from "./segments";

const step = (about: Partial<Step>): Step => ({
  number: 0, kind: "segment", queue: "cpu", state: "ready", worker: null, fence: 0, attempts: 0,
  frames: 48, frames_done: 0, sampler: null, bytes: null, sha256: null, error: null, began: null, ended: null,
  ...about,
});

test("a segment is made again after a try in vain only", () => {
  expect(isAgain(step({}))).toBe(false);
  expect(isAgain(step({ state: "leased", attempts: 1 }))).toBe(false);
  expect(isAgain(step({ state: "ready", attempts: 1 }))).toBe(true);
  expect(isAgain(step({ state: "leased", attempts: 2 }))).toBe(true);
  expect(isAgain(step({ state: "done", attempts: 2 }))).toBe(false);
});

test("the try that waits is the next one", () => {
  expect(attemptOf(step({ state: "ready", attempts: 1 }))).toBe(2);
  expect(attemptOf(step({ state: "leased", attempts: 2 }))).toBe(2);
});

test("a step of the sampler is told", () => {
  const told = { type: "job.step", job: "j", data: { segment: 0, done: 3, of: 30 } };
  expect(after([step({ state: "leased" })], told)[0]?.sampler).toEqual({ done: 3, of: 30 });
});

test("spans follow each other", () => {
  expect(spans([step({}), step({ frames: 24 })])).toEqual([[0, 47], [48, 71]]);
});

test("counts and cells", () => {
  const some = [step({ state: "blocked" }), step({ state: "leased", frames_done: 24 })];
  expect(counts(some)).toEqual({ done: 0, leased: 1, ready: 1, failed: 0, cancelled: 0 });
  expect(cell(some[1]!).made).toBe(50);
  expect(cell(step({ frames: 0 })).made).toBe(0);
});

test("events change the step that they tell of", () => {
  const told = (type: string, data: Record<string, unknown>) => ({ type, job: "j", data });
  const steps = [step({}), step({ number: 1 })];
  const begun = after(steps, told("segment.state", { number: 1, state: "leased", worker: "w" }));
  expect(begun[0]).toBe(steps[0]);
  expect(begun[1]).toMatchObject({ state: "leased", worker: "w", attempts: 1, frames_done: 0 });
  const further = after(begun, told("job.progress", { segment: 1, done: 7 }));
  expect(further[1]!.frames_done).toBe(7);
  const lost = after(further, told("segment.state", { number: 1, state: "ready", worker: null }));
  expect(lost[1]).toMatchObject({ state: "ready", worker: "w", attempts: 1, frames_done: 0 });
  expect(isAgain(lost[1]!)).toBe(true);
  const done = after(begun, told("segment.state", { number: 1, state: "done", worker: null }));
  expect(done[1]!.frames_done).toBe(48);
  expect(after(steps, told("job.state", { state: "paused" }))).toBe(steps);
});
