import { expect, test } from "vitest";
import { type AnyKnob, type Choices, type Engine, params, withKnob, withMore } from "./choices";
import { applied, chosen, type Preset } from "./presets";

const usual: Choices = {
  engine: "lite", by: "scale", scale: "2", height: 1080, container: "mp4", knobs: {}, more: {},
  priority: 0, keep: "partial",
};
const look = {
  kind: "choice" as const, name: "look", help: "", allowed: "", default: "faithful", choices: ["faithful", "crisp"],
} satisfies AnyKnob;
const lite = { name: "lite", knobs: [look] } as unknown as Engine;
const preset = (id: string, given: object) =>
  ({ id, name: id, about: "", origin: "own", kind: "upscale", created: null, params: given }) as Preset;
const crisp = preset("crisp", { engine: "lite", set: { look: "crisp" } });
const large = preset("large", { engine: "lite", height: 2160, crf: 20 });

test("what is as usual is left to the service", () => {
  expect(params(usual)).toEqual({ engine: "lite", scale: "2" });
});

test("a height takes the place of the scale", () => {
  expect(params({ ...usual, by: "height" })).toEqual({ engine: "lite", height: 1080 });
});

test("only the frames between two are asked for", () => {
  expect(params(usual, { first: null, stop: 90 }).frames).toEqual([0, 90]);
  expect(params(usual, { first: 10, stop: null }).frames).toEqual([10, null]);
});

test("knobs are those of the chosen engine, and a default is not kept", () => {
  const knobs = withKnob(usual, look, "crisp");
  expect(params({ ...usual, knobs }).set).toEqual({ look: "crisp" });
  expect(params({ ...usual, knobs, engine: "resize" }).set).toBeUndefined();
  expect(withKnob({ ...usual, knobs }, look, "faithful")).toEqual({ lite: {} });
});

test("what is emptied is as usual again", () => {
  expect(withMore({ crf: 20, seed: 3 }, "crf", undefined)).toEqual({ seed: 3 });
  expect(withMore({}, "seed", 0)).toEqual({ seed: 0 });
});

test.each([crisp, large])("a preset that was picked is the one that is shown: $id", (one) => {
  const now = { ...usual, ...applied(one, usual) };
  expect(params(now)).toMatchObject(one.params);
  expect(chosen([crisp, large], now, lite)).toBe(one);
});

test("what is changed after that is no preset", () => {
  expect(chosen([crisp], usual, lite)).toBeUndefined();
  const now = { ...usual, ...applied(large, usual) };
  expect(chosen([large], { ...now, more: { crf: 21 } }, lite)).toBeUndefined();
  expect(chosen([large], { ...now, by: "scale" }, lite)).toBeUndefined();
});
