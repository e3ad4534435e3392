import type { Told } from "../../api/events";
import type { Step } from "./queries";

/** How a segment stands, as the map shows it. */
export type Standing = "done" | "leased" | "ready" | "failed" | "cancelled";

export interface Cell {
  number: number;
  standing: Standing;
  again: boolean;
  /** Per cent of its frames, in steps of ten: so that few cells change at a time. */
  made: number;
}

export const STANDINGS: readonly Standing[] = ["done", "leased", "ready", "failed", "cancelled"];

export const segmentsOf = (steps: Step[]) => steps.filter((step) => step.kind === "segment");

export const standing = (step: Step): Standing => (step.state === "blocked" ? "ready" : step.state);

/** Whether a try before was in vain, and the segment is being made, or waits, once more. */
export const isAgain = (step: Step) =>
  (step.state === "leased" && step.attempts > 1) || (step.state === "ready" && step.attempts > 0);

/** Which try is at work or comes next. */
export const attemptOf = (step: Step) => step.attempts + (step.state === "ready" ? 1 : 0);

export const cell = (step: Step): Cell => ({
  number: step.number,
  standing: standing(step),
  again: isAgain(step),
  made: step.frames > 0 ? Math.round((10 * step.frames_done) / step.frames) * 10 : 0,
});

export function counts(segments: Step[]): Record<Standing, number> {
  const found = { done: 0, leased: 0, ready: 0, failed: 0, cancelled: 0 };
  for (const step of segments) found[standing(step)] += 1;
  return found;
}

/** First and last frame of each segment, by its place in the list. */
export function spans(segments: Step[]): [number, number][] {
  let start = 0;
  return segments.map(({ frames }) => {
    const span: [number, number] = [start, start + frames - 1];
    start += frames;
    return span;
  });
}

/** The steps as they are after an event. */
export function after(steps: Step[], { type, data }: Told): Step[] {
  if (type === "job.progress")
    return changed(steps, data.segment, () => ({ frames_done: Number(data.done) }));
  if (type === "job.step")
    return changed(steps, data.segment, () => ({
      sampler: { done: Number(data.done), of: Number(data.of) },
    }));
  if (type !== "segment.state") return steps;
  const state = data.state as Step["state"];
  return changed(steps, data.number, (step) => ({
    state,
    worker: (data.worker as string | null) ?? step.worker,
    attempts: step.attempts + (state === "leased" && step.state !== "leased" ? 1 : 0),
    frames_done: state === "done" ? step.frames : 0,
  }));
}

const changed = (steps: Step[], number: unknown, change: (step: Step) => Partial<Step>) =>
  steps.map((step) => (step.number === number ? { ...step, ...change(step) } : step));
