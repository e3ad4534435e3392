import { useState } from "react";
import type { Shapes } from "../../api/client";
import type { components } from "../../api/schema";

export type Params = components["schemas"]["UpscaleParams"];
export type WordsParams = components["schemas"]["GenerateParams"];
export type Asking = components["schemas"]["Asking"];
export type NewJob = components["schemas"]["NewJob"];
export type Engine = Shapes["Engine"];
export type Generator = Shapes["Generator"];
export type AnyKnob = Engine["knobs"][number];
export type Knob = string | number | boolean;
export type Knobs = Record<string, Knob>;

export type More = Omit<Params, "engine" | "scale" | "height" | "set" | "frames">;

/** What was chosen in the form; all of it is remembered for the next job. */
export interface Choices {
  engine: string;
  generator: string; // the engine of films from words
  prompt: string;
  negative: string;
  by: "scale" | "height";
  scale: "1.5" | "2" | "3" | "4";
  height: number;
  container: "mp4" | "mkv";
  knobs: Record<string, Knobs>; // of each engine, where they are not as usual
  more: More;
  priority: number;
  keep: "partial" | "nothing"; // of what is done, when it is cancelled
}

/** Of the many, those that films from words have, too. */
const WRITTEN = ["codec", "crf", "effort", "bits", "seed", "vram", "ram", "place"] as const;

/** Only these frames; not remembered, for the next film is another one. */
export interface Cut {
  first: number | null;
  stop: number | null;
}

/** The film to begin from. */
export type Source = { asset: string } | { parent: string };

const USUAL: Choices = {
  engine: "lite", generator: "wan", prompt: "", negative: "", by: "scale", scale: "2", height: 1080, container: "mp4", knobs: {}, more: {},
  priority: 0, keep: "partial",
};
const KEY = "longtake-choices";

export function useChoices() {
  const [choices, setChoices] = useState(remembered);
  const change = (changed: Partial<Choices>) => {
    const next = { ...choices, ...changed };
    localStorage.setItem(KEY, JSON.stringify(next));
    setChoices(next);
  };
  return [choices, change] as const;
}

function remembered(): Choices {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}") as Partial<Choices>;
    return { ...USUAL, ...kept };
  } catch {
    return USUAL;
  }
}

/** As the service takes them; what is as usual is left to it. */
export function params(choices: Choices, cut: Cut = { first: null, stop: null }): Params {
  const { engine, by, scale, height, knobs, more } = choices;
  const set = knobs[engine] ?? {};
  return {
    engine,
    ...(by === "scale" ? { scale } : { height }),
    ...(Object.keys(set).length > 0 ? { set } : {}),
    ...(cut.first !== null || cut.stop !== null ? { frames: [cut.first ?? 0, cut.stop] } : {}),
    ...more,
  };
}

/** The same of a film from words. */
export function words(choices: Choices): WordsParams {
  const { generator, knobs, more, prompt, negative } = choices;
  const set = knobs[generator] ?? {};
  return {
    engine: generator,
    prompt: prompt.trim(),
    ...(negative.trim() ? { negative: negative.trim() } : {}),
    ...(Object.keys(set).length > 0 ? { set } : {}),
    ...Object.fromEntries(WRITTEN.flatMap((name) => (more[name] === undefined ? [] : [[name, more[name]]]))),
  };
}

/** Whether a model begins with a picture: those are called image-to-video. */
export const takesPicture = (generator: Generator, choices: Choices) =>
  String(settled(generator, choices.knobs[generator.name] ?? {})["model"] ?? "").startsWith("i2v");

/** With one of the many set, or as usual again (undefined). */
export function withMore<K extends keyof More>(more: More, name: K, value: More[K] | undefined): More {
  const { [name]: _, ...rest } = more;
  return value === undefined || value === null ? rest : { ...rest, [name]: value };
}

/** With one knob of an engine set; a default is not kept, so that it may change. */
export function withKnob(
  choices: Choices, knob: AnyKnob, value: Knob, engine: string = choices.engine,
): Choices["knobs"] {
  const { [knob.name]: _, ...rest } = choices.knobs[engine] ?? {};
  const set = value === knob.default ? rest : { ...rest, [knob.name]: value };
  return { ...choices.knobs, [engine]: set };
}

/** All knobs, as they will be. */
export const settled = (engine: Generator, set: Knobs): Knobs => ({
  ...Object.fromEntries(engine.knobs.map((knob) => [knob.name, knob.default])),
  ...set,
});
