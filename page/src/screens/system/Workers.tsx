import { Alert, Anchor, Code, SimpleGrid, Stack, Text } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Fault } from "../../components/Fault";
import { Section } from "../../components/Section";
import { useNow } from "../../lib/clock";
import { isThere, useWorkers, type Worker } from "../../lib/workers";
import { WorkerCard } from "./WorkerCard";

const LATELY = 24 * 3600e6; // microseconds: workers that went before are not told

/** Who works, on what; where nobody does, how to start somebody. */
export function Workers({ admin }: { admin: boolean }) {
  const { t } = useTranslation("system");
  const workers = useWorkers();
  const now = useNow();
  const [showsGone, setShowsGone] = useState(false);
  const all = workers.data ?? [];
  const isKept = (worker: Worker) => isThere(worker, now) || worker.drained !== null;
  const kept = all.filter(isKept);
  const gone = all.filter((worker) => !isKept(worker) && now - worker.beat < LATELY).reverse();
  const shown = showsGone ? [...kept, ...gone] : kept;
  if (workers.data && kept.length + gone.length === 0) return <Nobody />;
  return (
    <>
      {workers.data && !all.some((worker) => isThere(worker, now)) && <Nobody />}
      <Section
        title={t("workers.title")}
        aside={
          gone.length > 0 && (
            <Anchor component="button" type="button" size="sm" onClick={() => setShowsGone(!showsGone)} aria-expanded={showsGone}>
              {t(showsGone ? "workers.hideGone" : "workers.gone", { count: gone.length })}
            </Anchor>
          )
        }
      >
        {workers.isError && !workers.data && (
          <Fault error={workers.error} again={() => void workers.refetch()} />
        )}
        {workers.data && shown.length === 0 && <Text size="sm">{t("workers.none")}</Text>}
        <SimpleGrid cols={{ base: 1, md: 2 }}>
          {shown.map((worker) => (
            <WorkerCard key={worker.id} worker={worker} now={now} admin={admin} />
          ))}
        </SimpleGrid>
      </Section>
    </>
  );
}

function Nobody() {
  const { t } = useTranslation("system");
  return (
    <Alert color="red" variant="light" icon={<IconAlertTriangle aria-hidden />} title={t("nobody.title")} role="alert">
      <Stack gap="xs" c="var(--mantine-color-text)">
        <Text size="sm">{t("nobody.what")}</Text>
        <Text size="sm">{t("nobody.start")}</Text>
        <Code w="fit-content">longtake worker</Code>
        <Text size="sm">{t("nobody.serve")}</Text>
      </Stack>
    </Alert>
  );
}
