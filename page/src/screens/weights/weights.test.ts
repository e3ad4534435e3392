import { expect, test } from "vitest";
import { progress } from "./progress";
import type { Model, Pull } from "./queries";

const pull: Pull = {
  state: "running", origin: "hf", file: "a", received: 50, of: 100, bytes_per_second: 10,
  note: null, error: null, began: 0,
};
const model: Model = {
  name: "m", about: "", engines: [], licences: "", folder: "", state: "partial", here: 150,
  of: 400, error: null, files: [], pull,
};

test("of all files where their sizes are known", () => {
  expect(progress(model)).toEqual({ here: 150, of: 400, left: 25 });
});

test("else of the file that is fetched", () => {
  expect(progress({ ...model, of: null })).toEqual({ here: 50, of: 100, left: 5 });
});

test("nobody knows how long while nothing comes", () => {
  expect(progress({ ...model, pull: { ...pull, bytes_per_second: 0 } }).left).toBeNull();
  expect(progress({ ...model, of: null, pull: { ...pull, of: null } }).left).toBeNull();
});
