import { expect, test } from "vitest";
import { moments } from "./moments";

test("from the first frame to the last", () => {
  expect(moments({ frames: 81, duration: "81/16" })).toHaveLength(8);
  expect(moments({ frames: 81, duration: "81/16" }).at(0)).toBe(0);
  expect(moments({ frames: 81, duration: "81/16" }).at(-1)).toBe(5);
});

test("of a short film every frame once", () => {
  expect(moments({ frames: 3, duration: "3/10" })).toEqual([0, 0.1, 0.2]);
  expect(moments({ frames: 1, duration: "1/16" })).toEqual([0]);
});
