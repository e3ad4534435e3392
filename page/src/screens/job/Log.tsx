import { Button, Group, Text } from "@mantine/core";
import { IconArrowDown, IconCopy } from "@tabler/icons-react";
import { memo, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { told } from "../../components/notify";
import { Section } from "../../components/Section";
import { copy } from "../../lib/copy";
import "./log.css";
import { type Job, type Line, useLog } from "./queries";

/** What happened with a job, line by line. Follows the end until somebody scrolls up. */
export function Log({ job }: { job: Job }) {
  const { t } = useTranslation("job");
  const log = useLog(job.id);
  const lines = log.data ?? [];
  const list = useRef<HTMLOListElement>(null);
  const [follows, setFollows] = useState(true);
  const count = lines.length;
  const toEnd = () => list.current?.scrollTo({ top: list.current.scrollHeight });
  useEffect(() => {
    if (follows) toEnd();
  }, [follows, count]);
  const scrolled = () => {
    const at = list.current;
    if (at) setFollows(at.scrollHeight - at.scrollTop - at.clientHeight < 24);
  };
  const copyAll = async () => {
    const done = await copy(lines.map(plain).join("\n"));
    told(t(done ? "log.copied" : "log.notCopied"));
  };
  if (count === 0) return null;
  return (
    <Section
      title={t("log.title")}
      aside={
        <Group gap="xs">
          {!follows && (
            <Button size="compact-sm" variant="default" onClick={toEnd} leftSection={<IconArrowDown size={14} aria-hidden />}>
              {t("log.follow")}
            </Button>
          )}
          <Button
            size="compact-sm" variant="default" onClick={() => void copyAll()}
            leftSection={<IconCopy size={14} aria-hidden />}
          >
            {t("log.copy")}
          </Button>
        </Group>
      }
    >
      {log.error && <Text size="sm">{log.error.message}</Text>}
      <ol className="joblog figures" ref={list} tabIndex={0} aria-label={t("log.title")} onScroll={scrolled}>
        {lines.map((line) => (
          <Entry key={line.id} line={line} />
        ))}
      </ol>
    </Section>
  );
}

const Entry = memo(function Entry({ line }: { line: Line }) {
  const { t, i18n } = useTranslation("job");
  const at = new Date(line.at / 1000);
  const short = at.toLocaleTimeString(i18n.language, { hour12: false });
  const mark = line.level === "info" ? "" : `${t(`log.${line.level}`)}: `;
  return (
    <li data-level={line.level}>
      <time className="when" dateTime={at.toISOString()} title={at.toLocaleString(i18n.language)}>
        {short}
      </time>
      <span className="who">{line.worker ?? ""}</span>
      <span className="text">
        {mark}
        {line.text}
      </span>
    </li>
  );
});

const plain = ({ at, level, worker, text }: Line) =>
  [new Date(at / 1000).toISOString(), level, worker ?? "-", text].join(" ");
