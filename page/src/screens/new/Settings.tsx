import { Loader, NumberInput, SegmentedControl, SimpleGrid, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useId } from "react";
import { useTranslation } from "react-i18next";
import { api, body } from "../../api/client";
import { Fault } from "../../components/Fault";
import { AllSettings } from "./AllSettings";
import { type Choices, type Engine, params, withMore } from "./choices";
import { EngineField } from "./EngineField";
import type { Form } from "./NewJob";
import { PresetField } from "./PresetField";

const SCALES = ["1.5", "2", "3", "4"] as const;
const HEIGHTS = ["720", "1080", "1440", "2160"] as const;

/** What engines there are, and what can be set on them. */
export const useEngines = () =>
  useQuery({
    queryKey: ["engines"],
    queryFn: () => body(api.GET("/api/v1/engines")),
    staleTime: Infinity,
  });

/** What to make of the film. */
export function Settings({ form }: { form: Form }) {
  const { t } = useTranslation("new");
  const { choices, change } = form;
  const engines = useEngines();
  if (engines.isPending) return <Loader aria-label={t("common:loading")} />;
  if (engines.isError) return <Fault error={engines.error} again={() => void engines.refetch()} />;
  const list = inOrder(engines.data.engines);
  const engine = list.find((one) => one.name === choices.engine) ?? list[0]!;
  return (
    <Stack component="section" aria-labelledby="what">
      <Title order={2} size="h4" id="what">
        {t("what")}
      </Title>
      <EngineField engines={list} value={choices.engine} change={(name) => change({ engine: name })} />
      <PresetField
        engine={engine} kind="upscale" params={params(choices)} choices={choices} change={change}
      />
      <SizeField choices={choices} change={change} />
      <FileFields choices={choices} change={change} />
      <AllSettings engine={engine} form={form} />
    </Stack>
  );
}

/** How the film is written. */
export function FileFields({ choices, change }: Pick<Form, "choices" | "change">) {
  const { t } = useTranslation("new");
  return (
    <SimpleGrid cols={{ base: 1, xs: 2 }}>
      <Labelled label={t("container.label")} help={t(`container.${choices.container}`)}>
        {(id) => (
          <SegmentedControl
            aria-labelledby={id} value={choices.container} data={["mp4", "mkv"]} fullWidth
            onChange={(value) => change({ container: value as Choices["container"] })}
          />
        )}
      </Labelled>
      <NumberInput
        label={t("crf.label")} description={t("crf.help")} placeholder={t("usual")} min={0} max={63}
        allowDecimal={false} inputWrapperOrder={["label", "input", "description"]}
        value={choices.more.crf ?? ""}
        onChange={(value) =>
          change({ more: withMore(choices.more, "crf", value === "" ? undefined : Number(value)) })
        }
      />
    </SimpleGrid>
  );
}

/** What works at once first: the built-in one. */
const inOrder = (engines: Engine[]) =>
  engines.toSorted((a, b) => Number(b.name === "lite") - Number(a.name === "lite"));

function SizeField({ choices, change }: Pick<Form, "choices" | "change">) {
  const { t } = useTranslation("new");
  const value = choices.by === "height" ? "height" : choices.scale;
  const pick = (to: string) =>
    change(to === "height" ? { by: "height" } : { by: "scale", scale: to as Choices["scale"] });
  return (
    <Labelled label={t("size.label")}>
      {(id) => (
        <>
          <SegmentedControl
            aria-labelledby={id} value={value} onChange={pick} fullWidth
            data={[
              ...SCALES.map((scale) => ({ value: scale, label: `${scale}×` })),
              { value: "height", label: t("size.byHeight") },
            ]}
          />
          {choices.by === "height" && (
            <HeightField choices={choices} change={change} />
          )}
        </>
      )}
    </Labelled>
  );
}

function HeightField({ choices, change }: Pick<Form, "choices" | "change">) {
  const { t } = useTranslation("new");
  return (
    <SimpleGrid cols={{ base: 1, xs: 2 }} mt="xs">
      <SegmentedControl
        aria-label={t("size.usual")} data={[...HEIGHTS]} value={`${choices.height}`} fullWidth
        onChange={(value) => change({ height: Number(value) })}
      />
      <NumberInput
        aria-label={t("size.height")} suffix=" px" min={2} max={16384} step={2} allowDecimal={false}
        value={choices.height}
        onChange={(value) => value !== "" && change({ height: Number(value) })}
      />
    </SimpleGrid>
  );
}

interface LabelledProps {
  label: string;
  help?: string;
  children: (id: string) => React.ReactNode;
}

/** A label over what is no single input. */
export function Labelled({ label, help, children }: LabelledProps) {
  const id = useId();
  return (
    <div>
      <Text size="sm" fw={600} mb={3} id={id}>
        {label}
      </Text>
      {children(id)}
      {help && (
        <Text size="xs" c="dimmed" mt={5}>
          {help}
        </Text>
      )}
    </div>
  );
}
