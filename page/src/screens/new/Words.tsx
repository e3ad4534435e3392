import { Grid, Loader, SimpleGrid, Stack, Textarea, Title } from "@mantine/core";
import { useTranslation } from "react-i18next";
import type { Shapes } from "../../api/client";
import { Fault } from "../../components/Fault";
import { AllSettings } from "./AllSettings";
import { type Asking, type Generator, takesPicture, useChoices, withKnob, words } from "./choices";
import { EngineField } from "./EngineField";
import { KnobField } from "./KnobField";
import type { Form } from "./NewJob";
import { useFilm } from "./FilmCard";
import { PictureField } from "./PictureField";
import { PlanCard } from "./PlanCard";
import { PresetField } from "./PresetField";
import { FileFields, useEngines } from "./Settings";

const FIRST = ["model", "size", "frames", "steps", "guidance"] as const; // knobs that most people set
const LONGEST = 8000; // characters, as the service takes them
const BELOW: ("label" | "input" | "description" | "error")[] = ["label", "input", "description", "error"];

interface Props {
  asset: string | null; // the picture
  pick: (asset: string | null) => void;
}

/** A film from words, and from a picture where the model takes one. */
export function Words(props: Props) {
  const { t } = useTranslation("new");
  const engines = useEngines();
  if (engines.isPending) return <Loader aria-label={t("common:loading")} />;
  if (engines.isError) return <Fault error={engines.error} again={() => void engines.refetch()} />;
  return <Asked {...props} generators={engines.data.generators} />;
}

function Asked({ asset, pick, generators }: Props & { generators: Generator[] }) {
  const { t } = useTranslation("new");
  const [choices, change] = useChoices();
  const generator = generators.find(({ name }) => name === choices.generator) ?? generators[0]!;
  const seeing = takesPicture(generator, choices);
  const set = choices.knobs[generator.name] ?? {};
  const first = generator.knobs.filter(({ name }) => (FIRST as readonly string[]).includes(name));
  const params = words(choices);
  const { prompt: _, ...kept } = params;
  const form: Form = { choices, change, cut: { first: null, stop: null }, setCut: () => {}, frames: null };
  const picture = useFilm(seeing ? asset : null);
  const lacks = lacking(
    Boolean(params.prompt), !seeing ? "unused" : asset === null ? "none" : picture.data,
  );
  const asking: Asking = {
    kind: "generate", params, container: choices.container, asset: seeing ? asset : null,
  };
  return (
    <Grid gap="xl">
      <Grid.Col span={{ base: 12, md: 7 }}>
        <Stack component="section" aria-labelledby="what">
          <Title order={2} size="h4" id="what">
            {t("what")}
          </Title>
          <Textarea
            label={t("words.prompt")} description={t("words.promptHelp")} inputWrapperOrder={BELOW} required
            autosize minRows={3} maxRows={12} maxLength={LONGEST} value={choices.prompt}
            onChange={(event) => change({ prompt: event.currentTarget.value })}
          />
          <Textarea
            label={t("words.negative")} description={t("words.negativeHelp")} inputWrapperOrder={BELOW}
            autosize minRows={2} maxRows={8} maxLength={LONGEST} value={choices.negative}
            onChange={(event) => change({ negative: event.currentTarget.value })}
          />
          <EngineField
            engines={generators} value={generator.name} change={(name) => change({ generator: name })}
          />
          <PresetField engine={generator} kind="generate" params={kept} choices={choices} change={change} />
          <SimpleGrid cols={{ base: 1, xs: 2 }} verticalSpacing="sm">
            {first.map((knob) => (
              <KnobField
                key={knob.name} knob={knob} value={set[knob.name] ?? knob.default}
                change={(value) => change({ knobs: withKnob(choices, knob, value, generator.name) })}
              />
            ))}
          </SimpleGrid>
          {seeing && <PictureField asset={asset} pick={pick} />}
          <FileFields choices={choices} change={change} />
          <AllSettings engine={generator} form={form} source={false} without={FIRST} />
        </Stack>
      </Grid.Col>
      <Grid.Col span={{ base: 12, md: 5 }}>
        <PlanCard asking={lacks === null ? asking : t(lacks)} engine={generator.name} choices={choices} />
      </Grid.Col>
    </Grid>
  );
}

/** What keeps the plan from being asked for; null where nothing does. */
function lacking(said: boolean, picture: "unused" | "none" | Shapes["Asset"] | undefined): string | null {
  if (!said) return "words.say";
  if (picture === "unused") return null;
  if (picture === "none") return "words.needsPicture";
  return picture?.video ? null : "picture.probing";
}
