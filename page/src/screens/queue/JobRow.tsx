import { Group, Progress, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import type { Shapes } from "../../api/client";
import { hasEnded } from "../../components/jobActions";
import { StateBadge } from "../../components/StateBadge";
import { share } from "../../components/share";
import { duration, number, time } from "../../lib/format";
import { JobMenu } from "./JobMenu";
import classes from "./queue.module.css";

type Job = Shapes["Job"];

export function JobRow({ job }: { job: Job }) {
  const { i18n } = useTranslation("queue");
  return (
    <li className={classes.row}>
      <div className={classes.film}>
        <Link to={`/jobs/${job.id}`} className={classes.link} title={job.name}>
          {job.name}
        </Link>
        <Asked job={job} />
      </div>
      <div className={classes.state}>
        <StateBadge job={job} />
      </div>
      <div className={classes.progress}>
        <Standing job={job} />
      </div>
      <Text size="xs" c="dimmed" className={`figures ${classes.created}`}>
        {time(job.created, i18n.language)}
      </Text>
      <div className={classes.menu}>
        <JobMenu job={job} />
      </div>
    </li>
  );
}

function Asked({ job }: { job: Job }) {
  const { t } = useTranslation("queue");
  const { task } = job;
  const said = [
    task.engine,
    task.kind === "generate" ? task.prompt : sizeOf(task, t),
    job.priority !== 0 && !hasEnded(job)
      ? t("priority", { value: `${job.priority > 0 ? "+" : "−"}${Math.abs(job.priority)}` })
      : null,
  ];
  return (
    <Text size="xs" c="dimmed" truncate>
      {said.filter(Boolean).join(" · ")}
    </Text>
  );
}

type Upscaling = Extract<Job["task"], { kind: "upscale" }>;

const sizeOf = ({ scale, height }: Upscaling, t: (key: string, slots: { height: number }) => string) =>
  scale !== null ? `${times(scale)}×` : height !== null ? t("height", { height }) : null;

/** "3/2" is 1.5. */
function times(ratio: string): number {
  const [over, under = "1"] = ratio.split("/");
  return Number(over) / Number(under);
}

/** How far it is, or how it ended. */
function Standing({ job }: { job: Job }) {
  const { t, i18n } = useTranslation("queue");
  const { frames, of } = job.progress;
  if (job.error !== null)
    return (
      <Text size="xs" c="var(--mantine-color-red-text)" lineClamp={2} title={job.error.detail ?? ""}>
        {job.error.detail ?? job.error.error}
      </Text>
    );
  if (job.state === "succeeded")
    return (
      <Said>
        {t("made", { frames: number(of ?? frames, i18n.language), time: took(job, i18n.language) })}
      </Said>
    );
  if (job.state === "partial" || job.state === "cancelled")
    return <Said>{t("stopped", figures(job, i18n.language))}</Said>;
  if (job.state === "queued" && frames === 0) return <Waits job={job} />;
  if (job.state === "planning") return <Said>{t("planning")}</Said>;
  return <Bar job={job} />;
}

/** Why nobody is at work on it. */
function Waits({ job: { waiting } }: { job: Job }) {
  const { t } = useTranslation("queue");
  return (
    <Text size="xs" c="dimmed" title={waiting?.detail}>
      {waiting === null ? t("waiting") : t(`waits.${waiting.reason}`)}
    </Text>
  );
}

function Said({ children }: { children: string }) {
  return (
    <Text size="xs" c="dimmed" className="figures">
      {children}
    </Text>
  );
}

function Bar({ job }: { job: Job }) {
  const { t, i18n } = useTranslation("queue");
  const { fps, eta, sampler } = job.progress;
  const moves = job.state === "running" && job.waiting === null;
  return (
    <>
      <Progress
        value={share(job)} size="sm" color={moves ? undefined : "gray"}
        aria-label={t("progress", { name: job.name })}
      />
      <Group justify="space-between" gap="xs" mt={4} wrap="nowrap">
        <Text size="xs" c="dimmed" className="figures" truncate>
          {sampler && sampler.done < sampler.of
            ? t("steps", { here: sampler.done, of: sampler.of })
            : t(moves && fps ? "common:of" : "frames", figures(job, i18n.language))}
          {moves && fps ? ` · ${t("common:fps", { value: number(fps, i18n.language, 1) })}` : ""}
        </Text>
        {moves && eta !== null && (
          <Text size="xs" className="figures" style={{ whiteSpace: "nowrap" }}>
            {t("left", { time: duration(eta, i18n.language) })}
          </Text>
        )}
        {!moves && job.waiting !== null && <Waits job={job} />}
      </Group>
    </>
  );
}

const figures = ({ progress: { frames, of } }: Job, language: string) => ({
  here: number(frames, language),
  of: of === null ? "–" : number(of, language),
});

const took = (job: Job, language: string) =>
  duration(job.started !== null && job.ended !== null ? (job.ended - job.started) / 1e6 : null, language);
