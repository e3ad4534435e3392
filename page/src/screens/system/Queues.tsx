import { Button, Group, Table, Text, VisuallyHidden } from "@mantine/core";
import { IconPlayerPause, IconPlayerPlay } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import { Scroll } from "../../components/Scroll";
import { Section } from "../../components/Section";
import { duration, number, time } from "../../lib/format";
import { type Queue, useQueues, useQueueSwitch } from "./queries";

/** What waits for which kind of worker. */
export function Queues({ admin }: { admin: boolean }) {
  const { t } = useTranslation("system");
  const queues = useQueues();
  if (!queues.data) return null;
  return (
    <Section title={t("queues.title")}>
      <Scroll label={t("queues.title")}>
        <Table className="figures" verticalSpacing={6} miw={480}>
          <Table.Thead>
            <Table.Tr>
              {["queue", "ready", "leased", "oldest"].map((name) => (
                <Table.Th key={name}>{t(`queues.${name}`)}</Table.Th>
              ))}
              {admin && <Table.Th>
                  <VisuallyHidden>{t("queues.actions")}</VisuallyHidden>
                </Table.Th>}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {queues.data.map((queue) => (
              <Row key={queue.name} queue={queue} admin={admin} />
            ))}
          </Table.Tbody>
        </Table>
      </Scroll>
    </Section>
  );
}

function Row({ queue, admin }: { queue: Queue; admin: boolean }) {
  const { t, i18n } = useTranslation("system");
  const turn = useQueueSwitch(queue.name);
  const isPaused = queue.paused !== null;
  const Icon = isPaused ? IconPlayerPlay : IconPlayerPause;
  return (
    <Table.Tr>
      <Table.Td>
        {t(`queues.${queue.name}`)}
        {isPaused && (
          <Text size="xs" fw={600}>
            {t("queues.paused", { when: time(queue.paused, i18n.language) })}
          </Text>
        )}
      </Table.Td>
      <Table.Td>{number(queue.ready, i18n.language)}</Table.Td>
      <Table.Td>{number(queue.leased, i18n.language)}</Table.Td>
      <Table.Td>{queue.oldest === null ? "–" : duration(queue.oldest, i18n.language)}</Table.Td>
      {admin && (
        <Table.Td>
          <Group justify="flex-end">
            <Button
              size="compact-sm" variant="default" loading={turn.isPending}
              leftSection={<Icon size={14} aria-hidden />} title={isPaused ? undefined : t("queues.pauseHelp")}
              onClick={() => turn.mutate(isPaused ? "resume" : "pause")}
            >
              {t(isPaused ? "queues.resume" : "queues.pause")}
            </Button>
          </Group>
        </Table.Td>
      )}
    </Table.Tr>
  );
}
