import i18n, { place } from ".";

/** The texts of the screen with the most: they come with it, and not with the first one. */
const files = import.meta.glob<Record<string, unknown>>("./*/new.json", { eager: true, import: "default" });
for (const [path, texts] of Object.entries(files)) i18n.addResourceBundle(...place(path), texts);
