import { Accordion, Anchor, Text, Title } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { address } from "../../api/client";
import { type Fact, Facts } from "../../components/Facts";
import { bytes, number } from "../../lib/format";
import { type Job, useAsset, usePlan } from "./queries";

type Recipe = { weights: string | null; seed: number; knobs: object; encoder: object; numerics: object };

/** All that is known of a film and of how it was made; folded away. */
export function Metadata({ job }: { job: Job }) {
  const { t } = useTranslation("job");
  return (
    <Accordion variant="contained" order={2} keepMounted={false}>
      <Accordion.Item value="all">
        <Accordion.Control>
          <Text span size="sm" fw={600}>
            {t("meta.title")}
          </Text>
        </Accordion.Control>
        <Accordion.Panel>
          <All job={job} />
        </Accordion.Panel>
      </Accordion.Item>
    </Accordion>
  );
}

function All({ job }: { job: Job }) {
  const { t, i18n } = useTranslation("job");
  const film = useAsset(job.result).data;
  const plan = usePlan(job.id).data;
  const recipe = plan?.plan["recipe"] as Recipe | undefined;
  const video = film?.video;
  return (
    <>
      {film && (
        <Group title={t("meta.film")}>
          {[
            [t("meta.name"), film.name],
            [t("meta.bytes"), `${number(film.bytes, i18n.language)} (${bytes(film.bytes, i18n.language)})`],
            [t("meta.sha256"), film.sha256],
            ...(video
              ? told({
                  container: video.container, codec: video.codec, width: video.width, height: video.height,
                  frames: video.frames, rate: video.rate, duration: video.duration, bits: video.bits,
                  chroma: video.chroma,
                })
              : []),
          ]}
        </Group>
      )}
      {plan && recipe && (
        <Group title={t("meta.recipe")}>
          {[
            [t("meta.identity"), plan.identity],
            [t("meta.weights"), recipe.weights ?? t("meta.none")],
            [t("asked.seed"), String(recipe.seed)],
            ...told(recipe.knobs),
          ]}
        </Group>
      )}
      {recipe && <Group title={t("meta.encoder")}>{told(recipe.encoder)}</Group>}
      {recipe && <Group title={t("meta.numerics")}>{told(recipe.numerics)}</Group>}
      <Anchor href={address(`jobs/${job.id}/plan`)} size="sm" target="_blank">
        {t("meta.plan")}
      </Anchor>
    </>
  );
}

function Group({ title, children }: { title: string; children: Fact[] }) {
  return (
    <section>
      <Title order={3} size="h6" mb={4}>
        {title}
      </Title>
      <Facts facts={children} />
    </section>
  );
}

/** Names and values as the service has them. */
const told = (values: object): Fact[] =>
  Object.entries(values)
    .filter(([name]) => name !== "is")
    .map(([name, value]) => [name, value === null ? "–" : String(value)]);
