import i18n from "i18next";
import { initReactI18next } from "react-i18next";

export const LANGUAGES = { en: "English", zh: "中文" } as const;
export type Language = keyof typeof LANGUAGES;

type Texts = Record<string, unknown>;

const files = import.meta.glob<Texts>(["./*/*.json", "!./*/new.json"], { eager: true, import: "default" });

/** Texts by language and namespace: the file en/queue.json is the namespace queue of English. */
export const resources: Record<string, Record<string, Texts>> = {};
for (const [path, texts] of Object.entries(files)) {
  const [language, name] = place(path);
  (resources[language] ??= {})[name] = texts;
}

/** Language and namespace of a file. */
export function place(path: string): [string, string] {
  const [, language, name] = /^\.\/(\w+)\/(\w+)\.json$/.exec(path)!;
  return [language!, name!];
}

const KEY = "longtake-language";

function preferred(): Language {
  const kept = localStorage.getItem(KEY);
  if (kept !== null && kept in LANGUAGES) return kept as Language;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export function speak(language: Language) {
  localStorage.setItem(KEY, language);
  void i18n.changeLanguage(language);
}

void i18n.use(initReactI18next).init({
  resources: resources as never,
  lng: preferred(),
  fallbackLng: "en",
  defaultNS: "common",
  interpolation: { escapeValue: false },
});
document.documentElement.lang = i18n.language;
i18n.on("languageChanged", (language) => (document.documentElement.lang = language));

export default i18n;
