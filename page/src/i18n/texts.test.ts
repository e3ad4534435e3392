import { expect, test } from "vitest";

const files = import.meta.glob<Record<string, unknown>>("./*/*.json", {
  eager: true,
  import: "default",
});

function flat(value: unknown, path = ""): Record<string, string> {
  if (typeof value === "string") return { [path]: value };
  return Object.assign(
    {},
    ...Object.entries(value as object).map(([k, v]) => flat(v, path ? `${path}.${k}` : k)),
  ) as Record<string, string>;
}

const slots = (text: string) => [...text.matchAll(/{{\s*(\w+)/g)].map((m) => m[1]).sort();
const plain = (key: string) => key.replace(/_(one|other)$/, "");
const english = Object.entries(files).filter(([path]) => path.startsWith("./en/"));

test("there are texts", () => expect(english.length).toBeGreaterThan(4));

test.each(english)("%s is there in Chinese, with the same gaps", (path, texts) => {
  const other = files[path.replace("/en/", "/zh/")];
  expect(other, path).toBeDefined();
  const [here, there] = [flat(texts), flat(other)];
  expect(new Set(Object.keys(there).map(plain))).toEqual(new Set(Object.keys(here).map(plain)));
  for (const [key, text] of Object.entries(there)) {
    const model = here[key] ?? here[`${plain(key)}_other`] ?? "";
    expect(slots(text), `${path} ${key}`).toEqual(slots(model));
    expect(text.trim(), `${path} ${key}`).not.toBe("");
  }
});
