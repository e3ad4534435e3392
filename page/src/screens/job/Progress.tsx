import { Alert, Anchor, Group, Paper, Progress as Bar, SimpleGrid, Stack, Text } from "@mantine/core";
import { IconAlertTriangle, IconRefresh } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { hasEnded } from "../../components/jobActions";
import { share } from "../../components/share";
import { useNow } from "../../lib/clock";
import { duration, number } from "../../lib/format";
import { useSentence } from "./now";
import { type Job, type Step, useAttempts } from "./queries";
import { attemptOf, isAgain, segmentsOf } from "./segments";
import { Stages } from "./Stages";

/** What is going on, how far it is and how long it takes. */
export function Progress({ job, steps }: { job: Job; steps: Step[] }) {
  const { t } = useTranslation("job");
  const sentence = useSentence(job, steps);
  return (
    <Paper withBorder p="md">
      <Stack gap="sm">
        {job.state === "failed" ? <Failed job={job} when={sentence} /> : <Text role={job.state === "running" ? undefined : "status"}>{sentence}</Text>}
        {job.waiting && ["worker", "paused"].includes(job.waiting.reason) && (
          <Anchor component={Link} to="/system" size="sm" w="fit-content">
            {t("toSystem")}
          </Anchor>
        )}
        {job.kind === "generate" && <Stages job={job} steps={steps} />}
        <Recovering job={job} steps={steps} />
        {(job.progress.of ?? 0) > 0 && job.state !== "succeeded" && <Figures job={job} />}
      </Stack>
    </Paper>
  );
}

const HINTS = ["BadInput", "WeightsMissing", "DoesNotFit", "OutOfMemory", "DiskFull", "NotANumber", "WorkerFailed", "ParentFailed"];

function Failed({ job, when }: { job: Job; when: string }) {
  const { t } = useTranslation("job");
  const name = job.error?.error ?? "";
  return (
    <Alert color="red" variant="light" icon={<IconAlertTriangle aria-hidden />} title={when} role="status">
      <Text size="sm" c="var(--mantine-color-text)" style={{ overflowWrap: "anywhere" }}>
        {job.error?.detail ?? t("noWords")}
      </Text>
      <Text size="sm" c="var(--mantine-color-text)" mt="xs" fw={600}>
        {t(`hint.${HINTS.includes(name) ? name : "other"}`)}
      </Text>
    </Alert>
  );
}

/** Segments that are made once more, because a worker died or failed at them. */
function Recovering({ job, steps }: { job: Job; steps: Step[] }) {
  const { t } = useTranslation("job");
  const again = segmentsOf(steps).filter(isAgain);
  const attempts = useAttempts(job.id).data ?? [];
  const why = ({ number, error }: Step) => {
    const last = attempts.findLast((each) => each.number === number && each.outcome !== null);
    if (last?.outcome === "lost") return t("lost", { worker: last.worker });
    return last?.detail ?? error;
  };
  if (again.length === 0) return null;
  const most = again.slice(0, 3);
  return (
    <Stack gap={4} role="status" data-testid="recovering">
      {most.map((step) => (
        <Group key={step.number} gap="xs" wrap="nowrap" align="flex-start">
          <IconRefresh size={18} color="var(--mantine-color-orange-text)" aria-hidden style={{ flexShrink: 0, marginTop: 2 }} />
          <Text size="sm" style={{ overflowWrap: "anywhere" }}>
            {t("recovering", {
              number: step.number,
              how: t(`again.${step.state}${Math.min(attemptOf(step), 3)}`),
            })}{" "}
            <Text span c="dimmed" inherit>
              {why(step)}
            </Text>
          </Text>
        </Group>
      ))}
      {again.length > most.length && (
        <Text size="sm">{t("recoveringMore", { count: again.length - most.length })}</Text>
      )}
    </Stack>
  );
}

function Figures({ job }: { job: Job }) {
  const { t, i18n } = useTranslation(["job", "common"]);
  const ended = hasEnded(job);
  const now = useNow(!ended);
  const { frames, fps, eta, sampler } = job.progress;
  const of = job.progress.of ?? 0;
  const part = share(job);
  const spent = job.started ? Math.max(0, (job.ended ?? now) - job.started) / 1e6 : null;
  const going = job.state === "running" && job.wish === "run";
  const say = (value: number, digits = 0) => number(value, i18n.language, digits);
  const facts: [string, string][] = [
    sampler && frames === 0
      ? [t("figures.steps"), t("common:of", { here: say(sampler.done), of: say(sampler.of) })]
      : [t("figures.frames"), t("common:of", { here: say(frames), of: say(of) })],
  ];
  if (going && (fps || job.kind === "upscale")) facts.push([t("figures.fps"), fps ? t("common:fps", { value: say(fps, fps < 10 ? 2 : 1) }) : "–"]);
  if (spent !== null) facts.push([t(ended ? "figures.took" : "figures.spent"), duration(spent, i18n.language)]);
  if (going) facts.push([t("figures.left"), eta === null ? t("figures.notYet") : duration(Math.max(eta, 1), i18n.language)]);
  return (
    <>
      <Bar
        value={part} size="lg" color={job.state === "failed" ? "red" : job.state === "paused" ? "gray.6" : "teal"}
        aria-label={t("figures.bar", { percent: Math.floor(part) })}
      />
      <SimpleGrid component="dl" cols={{ base: 2, sm: 4 }} spacing="xs" verticalSpacing={6} m={0}>
        {facts.map(([name, value]) => (
          <div key={name}>
            <Text component="dt" size="xs" c="dimmed">
              {name}
            </Text>
            <Text component="dd" m={0} fw={600} className="figures">
              {value}
            </Text>
          </div>
        ))}
      </SimpleGrid>
    </>
  );
}
