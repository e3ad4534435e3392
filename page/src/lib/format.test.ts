import { expect, test } from "vitest";
import { bytes, duration } from "./format";

test("bytes", () => {
  expect(bytes(0, "en")).toBe("0 B");
  expect(bytes(1023, "en")).toBe("1,023 B");
  expect(bytes(1536, "en")).toBe("1.5 KiB");
  expect(bytes(8 * 2 ** 30, "en")).toBe("8 GiB");
  expect(bytes(null, "en")).toBe("–");
});

test("durations carry over", () => {
  expect(duration(0.84, "en")).toBe("0.8 s");
  expect(duration(59.6, "en")).toBe("1 min 00 s");
  expect(duration(3599.9, "en")).toBe("1 h 00 min");
  expect(duration(7505, "en")).toBe("2 h 05 min");
  expect(duration(200, "zh")).toBe("3 分 20 秒");
});
