import { NumberInput, Select, Switch, TextInput } from "@mantine/core";
import { useTranslation } from "react-i18next";
import type { AnyKnob, Knob } from "./choices";

interface Props {
  knob: AnyKnob;
  value: Knob;
  change: (value: Knob) => void;
}

/** One knob of an engine, as the service describes it. */
export function KnobField({ knob, value, change }: Props) {
  const { t } = useTranslation("new");
  const label = t(`knob.${knob.name}.label`, { defaultValue: knob.name });
  const help = t(`knob.${knob.name}.help`, { defaultValue: knob.help });
  const shared = { label, inputWrapperOrder: ["label", "input", "description"] as const };
  switch (knob.kind) {
    case "choice": {
      const words = knob.choices.map(String);
      return (
        <Select
          {...shared} inputWrapperOrder={[...shared.inputWrapperOrder]} description={help}
          data={words} value={String(value)} allowDeselect={false}
          onChange={(word) => word !== null && change(knob.choices[words.indexOf(word)]!)}
        />
      );
    }
    case "switch":
      return (
        <Switch
          label={label} description={help} checked={Boolean(value)}
          onChange={(event) => change(event.currentTarget.checked)}
        />
      );
    case "text":
      return (
        <TextInput
          {...shared} inputWrapperOrder={[...shared.inputWrapperOrder]} description={help}
          value={String(value)} onChange={(event) => change(event.currentTarget.value)}
        />
      );
    default: {
      const { least, most } = knob;
      const span = least !== null && most !== null ? t("span", { least, most, usual: knob.default }) : "";
      return (
        <NumberInput
          {...shared} inputWrapperOrder={[...shared.inputWrapperOrder]}
          description={[help, span].filter(Boolean).join(" ")} value={Number(value)}
          min={least ?? undefined} max={most ?? undefined} allowDecimal={knob.kind === "number"}
          step={knob.kind === "number" ? 0.1 : 1} clampBehavior="blur"
          onChange={(number) => number !== "" && change(Number(number))}
        />
      );
    }
  }
}
