import { expect, test } from "vitest";
import { type AnyKnob, type Choices, type Engine, params, takesPicture, withKnob, withMore, words } from "./choices";
import { applied, chosen, type Preset } from "./presets";

const usual: Choices = {
  engine: "lite", generator: "wan", prompt: "", negative: "", by: "scale", scale: "2", height: 1080, container: "mp4", knobs: {}, more: {},
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

test("a film from words has its own knobs, and of the rest what it can use", () => {
  const said = { ...usual, prompt: " a cat ", negative: " ", more: { crf: 20, deinterlace: "bwdif" as const } };
  expect(words(said)).toEqual({ engine: "wan", prompt: "a cat", crf: 20 });
  const knobs = withKnob(usual, { ...look, name: "model", default: "t2v", choices: ["t2v", "i2v"] }, "i2v", "wan");
  expect(words({ ...said, knobs, negative: "blur" })).toMatchObject({ set: { model: "i2v" }, negative: "blur" });
  const wan = { ...lite, name: "wan", knobs: [{ ...look, name: "model", default: "t2v" }] } as never;
  expect(takesPicture(wan, usual)).toBe(false);
  expect(takesPicture(wan, { ...usual, knobs })).toBe(true);
});

test("a preset of films from words is picked for their engine", () => {
  const four = { ...preset("four", { engine: "wan", set: { look: "crisp" } }), kind: "generate" } as Preset;
  const now = { ...usual, ...applied(four, usual) };
  expect(now.engine).toBe("lite");
  expect(chosen([four], now, { ...lite, name: "wan" })).toBe(four);
});

test("where bytes lie is a preset's word, and goes with it", () => {
  const little = preset("little", { engine: "lite", place: { vram_threshold_percent: 40 } });
  const now = { ...usual, ...applied(little, usual) };
  expect(params(now).place).toEqual({ vram_threshold_percent: 40 });
  expect(chosen([preset("plain", { engine: "lite" }), little], now, lite)).toBe(little);
  expect(params({ ...now, ...applied(crisp, now) }).place).toBeUndefined();
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
