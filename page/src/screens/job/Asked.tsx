import { Alert, SimpleGrid, Skeleton, Stack, Text } from "@mantine/core";
import { IconInfoCircle } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import { Facts, type Fact } from "../../components/Facts";
import { hasEnded } from "../../components/jobActions";
import { Section } from "../../components/Section";
import { bytes, duration, number, time } from "../../lib/format";
import { type Job, usePlan } from "./queries";

/** What was asked, and what it needs. */
export function Asked({ job }: { job: Job }) {
  const { t } = useTranslation("job");
  return (
    <SimpleGrid cols={{ base: 1, md: 2 }}>
      <Section title={t("asked.title")}>
        <Settings job={job} />
      </Section>
      <Section title={t("plan.title")}>
        <Plan job={job} />
      </Section>
    </SimpleGrid>
  );
}

function Settings({ job }: { job: Job }) {
  const { t, i18n } = useTranslation("job");
  const { task } = job;
  const knobs: Fact[] = Object.entries(task.set).map(([name, value]) => [name, String(value)]);
  const words = (text: string) => <span style={{ whiteSpace: "pre-wrap" }}>{text}</span>;
  const given = (["codec", "effort", "bits"] as const)
    .filter((key) => task[key] !== null && task[key] !== "auto")
    .map((key): Fact => [t(`asked.${key}`), String(task[key])]);
  return (
    <Facts
      facts={[
        ...(task.kind === "generate"
          ? [
              [t("asked.prompt"), words(task.prompt)] as Fact,
              task.negative !== "" && ([t("asked.negative"), words(task.negative)] as Fact),
            ]
          : []),
        [t("asked.engine"), task.engine],
        ...(task.kind === "upscale" ? sizeOf(task, t, i18n.language) : []),
        [t("asked.crf"), task.crf === null ? t("asked.usual") : String(task.crf)],
        ...given,
        ...(task.kind === "upscale" ? sourceOf(task, t) : []),
        ...knobs,
        (task.seed !== 0 || task.kind === "generate") && [t("asked.seed"), String(task.seed)],
        [t("asked.priority"), String(job.priority)],
        [t("asked.created"), time(job.created, i18n.language)],
        job.mixed && [t("asked.mixed"), t("asked.mixedYes")],
        [t("asked.id"), job.id],
      ]}
    />
  );
}

type Upscaling = Extract<Job["task"], { kind: "upscale" }>;
type Say = (key: string, slots?: Record<string, unknown>) => string;

const sizeOf = ({ height, scale }: Upscaling, t: Say, language: string): Fact[] => [
  height !== null
    ? [t("asked.height"), `${number(height, language)} px`]
    : [t("asked.scale"), scale === null ? t("asked.usual") : `${ratio(scale, language)}×`],
];

/** How the film is read. */
function sourceOf(task: Upscaling, t: Say): Fact[] {
  const facts = (["deinterlace", "assume_color", "pre_width", "rate"] as const)
    .filter((key) => task[key] !== null && task[key] !== "no")
    .map((key): Fact => [t(`asked.${key}`), String(task[key])]);
  const first = task.frames[0] ?? 0;
  const behind = task.frames[1] ?? null;
  if (first > 0 || behind !== null)
    facts.push([t("asked.frames"), t("asked.span", { from: first, to: behind ?? "…" })]);
  if (task.drop.length > 0) facts.push([t("asked.drop"), task.drop.join(", ")]);
  return facts;
}

/** "4/1" is 4. */
function ratio(text: string, language: string): string {
  const [above, below] = text.split("/").map(Number);
  return number((above ?? 1) / (below ?? 1), language, 2);
}

function Plan({ job }: { job: Job }) {
  const { t, i18n } = useTranslation("job");
  const plan = usePlan(job.id);
  if (plan.error) return <Text size="sm">{plan.error.message}</Text>;
  if (!plan.data) return <Skeleton h={200} />;
  const { preview, stage } = plan.data;
  const took = hasEnded(job) && job.started && job.ended ? (job.ended - job.started) / 1e6 : null;
  const off = took !== null && preview.seconds ? Math.round((100 * took) / preview.seconds - 100) : null;
  const say = (value: number) => number(value, i18n.language);
  return (
    <Stack gap="sm">
      <Facts
        facts={[
          [t("plan.size"), t("plan.pixels", { width: preview.width, height: preview.height })],
          [t("plan.frames"), say(preview.frames)],
          job.kind === "upscale" && [t("plan.segments"), say(preview.segments)],
          [t("plan.device"), preview.device],
          preview.vram > 0 && [t("plan.vram"), bytes(preview.vram, i18n.language)],
          [t("plan.ram"), bytes(preview.ram, i18n.language)],
          [t("plan.disk"), bytes(preview.disk, i18n.language)],
          [
            t("plan.time"),
            preview.seconds === null ? t("plan.notMeasured") : duration(preview.seconds, i18n.language),
          ],
          took !== null && [
            t("plan.took"),
            off === null
              ? duration(took, i18n.language)
              : t("plan.off", { time: duration(took, i18n.language), percent: (off > 0 ? "+" : "") + say(off) }),
          ],
          [t("plan.stage"), t(job.kind === "generate" && stage === "frozen" ? "plan.fixed" : `plan.${stage}`)],
        ]}
      />
      {preview.notes.map((note) => (
        <Alert key={note} variant="light" color="gray" p="xs" icon={<IconInfoCircle aria-hidden />}>
          <Text size="sm">{note}</Text>
        </Alert>
      ))}
    </Stack>
  );
}
