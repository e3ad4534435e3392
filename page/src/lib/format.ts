/** Numbers as people read them, in the language of the page. */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** 3 GiB, 12.4 MiB; null is unknown. */
export function bytes(count: number | null | undefined, language: string): string {
  if (count === null || count === undefined) return "–";
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${number(value, language, digits)} ${UNITS[unit]}`;
}

export function number(value: number, language: string, digits = 0): string {
  return value.toLocaleString(language, { maximumFractionDigits: digits });
}

/** Seconds as "2 h 05 min", "3 min 20 s", "0.8 s". */
export function duration(seconds: number | null | undefined, language: string): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const zh = language.startsWith("zh");
  const [h, m, s] = zh ? ["小时", "分", "秒"] : ["h", "min", "s"];
  if (seconds < 10) return `${number(seconds, language, 1)} ${s}`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} ${s}`;
  const pad = (n: number) => String(n).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} ${m} ${pad(whole % 60)} ${s}`;
  const minutes = Math.round(whole / 60);
  return `${Math.floor(minutes / 60)} ${h} ${pad(minutes % 60)} ${m}`;
}

/** The service tells times in microseconds since 1970. */
export function time(micros: number | null | undefined, language: string): string {
  if (micros === null || micros === undefined) return "–";
  const at = new Date(micros / 1000);
  const today = at.toDateString() === new Date().toDateString();
  return at.toLocaleString(
    language,
    today ? { timeStyle: "medium" } : { dateStyle: "medium", timeStyle: "short" },
  );
}
