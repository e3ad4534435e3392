import type { Shapes } from "../../api/client";
import { type Choices, type Generator, type Knobs, type Params, settled } from "./choices";

export type Preset = Shapes["PresetShown"];

/** What a preset changes in the form; the rest stays as it is. */
export function applied(preset: Preset, choices: Choices): Partial<Choices> {
  const { engine: _e, set = {}, scale, height, frames: _, ...more } = preset.params as Params;
  const engine = engineOf(preset);
  const { place: _p, ...others } = choices.more; // of the preset before
  return {
    ...(preset.kind === "generate" ? { generator: engine } : { engine }),
    knobs: { ...choices.knobs, [engine]: set },
    more: { ...others, ...more },
    ...(scale ? { by: "scale", scale: `${scale}` as Choices["scale"] } : {}),
    ...(height ? { by: "height", height } : {}),
  };
}

/** The engine that a preset is for. */
export const engineOf = ({ kind, params }: Preset) =>
  params.engine ?? (kind === "generate" ? "wan" : "lite");

/** The preset whose values the form shows, if there is one. */
export function chosen(presets: Preset[], choices: Choices, engine: Generator): Preset | undefined {
  const now = settled(engine, choices.knobs[engine.name] ?? {});
  return presets.find(({ params }) => {
    const { engine: _, set = {}, scale, height, frames: __, ...more } = params as Params;
    return (
      same(settled(engine, set), now) &&
      same(more.place ?? {}, choices.more.place ?? {}) &&
      (!scale || (choices.by === "scale" && `${scale}` === choices.scale)) &&
      (!height || (choices.by === "height" && height === choices.height)) &&
      same(more as Knobs, pick(choices.more as Knobs, Object.keys(more)))
    );
  });
}

const pick = (from: Knobs, names: string[]) =>
  Object.fromEntries(names.flatMap((name) => (name in from ? [[name, from[name]!]] : [])));

const same = (one: Knobs, other: Knobs) =>
  Object.keys({ ...one, ...other }).every(
    (name) => JSON.stringify(one[name]) === JSON.stringify(other[name]),
  );
