import { MultiSelect, NumberInput, Select } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { type More, withMore } from "./choices";
import type { Form } from "./NewJob";

type Of<K extends keyof More> = NonNullable<More[K]>;

const CODECS: Of<"codec">[] = ["x264", "x265", "av1", "ffv1", "nvenc-h264", "nvenc-h265", "nvenc-av1"];
const EFFORTS: Of<"effort">[] = [
  "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow",
];
const COLORS: Of<"assume_color">[] = [
  "bt601-limited", "bt601-full", "bt709-limited", "bt709-full", "bt2020-limited", "bt2020-full",
];
const DEINTERLACE: Of<"deinterlace">[] = ["bwdif", "ivtc"];
const LOSSES: Of<"drop">[number][] = [
  "audio", "subtitles", "chapters", "attachments", "data", "alpha", "tail", "damaged",
];
const GIB = 1 << 30;
const BELOW: ("label" | "input" | "description" | "error")[] = ["label", "input", "description", "error"];

type Named = { [K in keyof More]-?: NonNullable<More[K]> extends string ? K : never }[keyof More];
type Counted = "seed" | "pre_width" | "vram" | "ram";

/** A choice among words; "" is as usual. */
function Word({ form, name, words }: { form: Form; name: Named; words: readonly string[] }) {
  const { t } = useTranslation("new");
  const { choices, change } = form;
  return (
    <Select
      label={t(`more.${name}.label`)} description={t(`more.${name}.help`)} inputWrapperOrder={BELOW}
      allowDeselect={false} value={choices.more[name] ?? ""}
      onChange={(word) => change({ more: withMore(choices.more, name, (word || undefined) as never) })}
      data={[
        { value: "", label: t(`more.${name}.usual`) },
        ...words.map((value) => ({ value, label: t(`more.${name}.${value}`, { defaultValue: value }) })),
      ]}
    />
  );
}

/** A number; empty is as usual. `unit`: what one of the field is in the service's. */
function Count({ form, name, unit = 1, suffix }: { form: Form; name: Counted; unit?: number; suffix?: string }) {
  const { t } = useTranslation("new");
  const { choices, change } = form;
  const value = choices.more[name];
  return (
    <NumberInput
      label={t(`more.${name}.label`)} description={t(`more.${name}.help`)} inputWrapperOrder={BELOW}
      placeholder={t("usual")} min={0} allowDecimal={unit !== 1} suffix={suffix}
      value={value ? value / unit : ""}
      onChange={(typed) =>
        change({
          more: withMore(choices.more, name, typed === "" ? undefined : Math.round(Number(typed) * unit)),
        })
      }
    />
  );
}

export function Encoder({ form }: { form: Form }) {
  const { t } = useTranslation("new");
  const { choices, change } = form;
  return (
    <>
      <Word form={form} name="codec" words={CODECS} />
      <Word form={form} name="effort" words={EFFORTS} />
      <Select
        label={t("more.bits.label")} description={t("more.bits.help")} inputWrapperOrder={BELOW}
        allowDeselect={false} value={`${choices.more.bits ?? ""}`}
        data={[{ value: "", label: t("more.bits.usual") }, "8", "10", "16"]}
        onChange={(bits) =>
          change({
            more: withMore(choices.more, "bits", bits ? (Number(bits) as Of<"bits">) : undefined),
          })
        }
      />
    </>
  );
}

export function SourceFields({ form }: { form: Form }) {
  const { t } = useTranslation("new");
  const { choices, change, cut, setCut, frames } = form;
  const number = (typed: string | number) => (typed === "" ? null : Number(typed));
  return (
    <>
      <NumberInput
        label={t("cut.first")} description={t("cut.firstHelp")} inputWrapperOrder={BELOW} placeholder="0"
        min={0} max={frames ?? undefined} allowDecimal={false} value={cut.first ?? ""}
        onChange={(typed) => setCut({ ...cut, first: number(typed) })}
      />
      <NumberInput
        label={t("cut.stop")} description={t("cut.stopHelp")} inputWrapperOrder={BELOW}
        placeholder={frames === null ? "" : `${frames}`} min={1} max={frames ?? undefined}
        allowDecimal={false} value={cut.stop ?? ""}
        onChange={(typed) => setCut({ ...cut, stop: number(typed) })}
      />
      <Word form={form} name="deinterlace" words={DEINTERLACE} />
      <Word form={form} name="assume_color" words={COLORS} />
      <Count form={form} name="pre_width" suffix=" px" />
      <MultiSelect
        label={t("more.drop.label")} description={t("more.drop.help")} inputWrapperOrder={BELOW}
        value={choices.more.drop ?? []}
        data={LOSSES.map((value) => ({ value, label: t(`more.drop.${value}`) }))}
        onChange={(drop) =>
          change({
            more: withMore(choices.more, "drop", drop.length > 0 ? (drop as Of<"drop">) : undefined),
          })
        }
      />
    </>
  );
}

export function LimitFields({ form }: { form: Form }) {
  return (
    <>
      <Count form={form} name="ram" unit={GIB} suffix=" GiB" />
      <Count form={form} name="vram" unit={GIB} suffix=" GiB" />
    </>
  );
}

export function JobFields({ form }: { form: Form }) {
  const { t } = useTranslation("new");
  const { choices, change } = form;
  return (
    <>
      <NumberInput
        label={t("priority.label")} description={t("priority.help")} inputWrapperOrder={BELOW} min={-10}
        max={10} allowDecimal={false} value={choices.priority} clampBehavior="strict"
        onChange={(typed) => typed !== "" && typed !== "-" && change({ priority: Number(typed) })}
      />
      <Select
        label={t("keep.label")} description={t("keep.help")} inputWrapperOrder={BELOW} allowDeselect={false}
        value={choices.keep} onChange={(keep) => change({ keep: keep === "nothing" ? "nothing" : "partial" })}
        data={[
          { value: "partial", label: t("keep.partial") },
          { value: "nothing", label: t("keep.nothing") },
        ]}
      />
      <Count form={form} name="seed" />
    </>
  );
}
